"""What the environment says, and how nonsense in it is told."""

from __future__ import annotations

import json

import pytest

from session_api.callers import SecurityKey, SignedTokens
from session_api.settings import settings_from
from unified_storage import StorageConfigurationError

ONE = {"AGNO_PG_DSN": "sqlite:///a.db"}
FIVE = {name: f"sqlite:///{name}.db" for name in ("gamma", "alpha", "epsilon", "beta", "delta")}
MAP = {"AGNO_SESSION_DSN_MAP": json.dumps(FIVE)}


def test_the_map_comes_before_the_dsn_and_that_before_the_fallback():
    """S4.13."""
    everything = {"DATABASE_URL": "sqlite:///c.db", **ONE, **MAP}
    assert dict(settings_from(everything).urls) == FIVE
    del everything["AGNO_SESSION_DSN_MAP"]
    assert dict(settings_from(everything).urls) == {"default": "sqlite:///a.db"}
    del everything["AGNO_PG_DSN"]
    assert dict(settings_from(everything).urls) == {"default": "sqlite:///c.db"}
    assert dict(settings_from(everything, url="memory://").urls) == {"default": "memory://"}


def test_the_first_id_that_is_written_is_the_default():
    """S4.14, T4.4: always, and not that of an unordered set."""
    for place in range(len(FIVE)):
        written = [*FIVE][place:] + [*FIVE][:place]
        told = {"AGNO_SESSION_DSN_MAP": json.dumps({name: FIVE[name] for name in written})}
        assert settings_from(told).default_id == written[0]
    assert settings_from({**MAP, "AGNO_DEFAULT_DB_ID": "beta"}).default_id == "beta"
    assert settings_from({**ONE, "AGNO_DEFAULT_DB_ID": "main"}).default_id == "main"


def test_the_port():
    """S4.15."""
    assert settings_from(ONE).port == 8080
    assert settings_from({**ONE, "AGNO_SERVICE_PORT": "9000"}).port == 9000
    assert settings_from({**ONE, "AGNO_SERVICE_PORT": "9000"}, port=9001).port == 9001


def test_keys_and_tokens():
    assert settings_from(ONE).authenticate is None
    assert settings_from({**ONE, "OS_SECURITY_KEY": "k"}).authenticate == SecurityKey("k")
    told = {**ONE, "JWT_VERIFICATION_KEY": "k", "JWT_ALGORITHM": "HS256,HS512", "SESSION_USER_ISOLATION": "true"}
    assert settings_from(told).authenticate == SignedTokens(["k"], ["HS256", "HS512"], None, isolated=True)
    assert settings_from({**ONE, "JWT_VERIFICATION_KEY": "k"}).authenticate == SignedTokens(["k"], ["RS256"])


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, ("AGNO_SESSION_DSN_MAP", "AGNO_PG_DSN", "DATABASE_URL")),
        ({"AGNO_PG_DSN": ""}, ("AGNO_PG_DSN",)),
        ({"AGNO_SESSION_DSN_MAP": "{"}, ("AGNO_SESSION_DSN_MAP",)),
        ({"AGNO_SESSION_DSN_MAP": "[]"}, ("AGNO_SESSION_DSN_MAP",)),
        ({"AGNO_SESSION_DSN_MAP": "{}"}, ("AGNO_SESSION_DSN_MAP",)),
        ({"AGNO_SESSION_DSN_MAP": '{"a": 1}'}, ("AGNO_SESSION_DSN_MAP",)),
        ({"AGNO_SESSION_DSN_MAP": '{"a": "memory://", "a": "memory://"}'}, ("AGNO_SESSION_DSN_MAP",)),
        ({"AGNO_SESSION_DSN_MAP": '{"a": {"b": "x"}}'}, ("AGNO_SESSION_DSN_MAP",)),
        ({**MAP, "AGNO_DEFAULT_DB_ID": "zeta"}, ("AGNO_DEFAULT_DB_ID", "zeta")),
        ({**ONE, "AGNO_SERVICE_PORT": "0"}, ("AGNO_SERVICE_PORT",)),
        ({**ONE, "AGNO_SERVICE_PORT": "65536"}, ("AGNO_SERVICE_PORT",)),
        ({**ONE, "AGNO_SERVICE_PORT": "http"}, ("AGNO_SERVICE_PORT",)),
        ({**ONE, "AGNO_SERVICE_PORT": "-1"}, ("AGNO_SERVICE_PORT",)),
        ({**ONE, "OS_SECURITY_KEY": "a", "JWT_VERIFICATION_KEY": "b"}, ("OS_SECURITY_KEY", "JWT_VERIFICATION_KEY")),
        ({**ONE, "SESSION_USER_ISOLATION": "1"}, ("SESSION_USER_ISOLATION", "JWT_VERIFICATION_KEY")),
        ({**ONE, "SESSION_ACCEPT_HISTORY": "maybe"}, ("SESSION_ACCEPT_HISTORY",)),
        ({**ONE, "SESSION_TRUSTED_PROXIES": "10.0.0.0/99"}, ("SESSION_TRUSTED_PROXIES",)),
        ({**ONE, "SESSION_REQUEST_TIMEOUT": "0"}, ("SESSION_REQUEST_TIMEOUT",)),
        ({**ONE, "SESSION_REQUEST_TIMEOUT": "nan"}, ("SESSION_REQUEST_TIMEOUT",)),
    ],
)
def test_nonsense_is_refused_by_the_name_of_its_variable(environment: dict[str, str], named: tuple[str, ...]):
    """S4.12, S4.14, S4.15."""
    with pytest.raises(StorageConfigurationError) as refused:
        settings_from(environment)
    assert all(name in refused.value.message for name in named)


def test_a_map_that_is_refused_is_not_quoted():
    with pytest.raises(StorageConfigurationError) as refused:
        settings_from({"AGNO_SESSION_DSN_MAP": '{"a": "postgresql://u:hunter2@h/d"'})
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(settings_from({"AGNO_PG_DSN": "postgresql://u:hunter2@h/d"}))
