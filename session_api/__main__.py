"""``python -m session_api``: the service as a container runs it. It has to be told where sessions are."""

import os
import sys

from session_api.serving import serve
from session_api.settings import settings_from
from unified_storage.errors import StorageConfigurationError

try:
    serve(settings_from(os.environ), host=os.environ.get("SESSION_HOST") or "0.0.0.0")
except StorageConfigurationError as error:
    sys.exit(f"session service: {error.message}")
