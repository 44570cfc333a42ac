"""What imports what among the sessions: no circles, and models know no service."""

from __future__ import annotations

import grimp
import pytest

BASE = ("session_adapter.models", "session_adapter.session", "session_adapter.typed")
ABOVE = ("session_adapter.service", "session_adapter.sessions", "session_adapter.repository", "session_adapter.scoped")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("session_adapter", exclude_type_checking_imports=True)


def test_no_module_imports_itself_by_a_detour(graph: grimp.ImportGraph) -> None:
    """S0.33: imports inside functions count as well."""
    circles = {
        module: chain
        for module in graph.modules
        for other in graph.find_modules_directly_imported_by(module)
        if (chain := graph.find_shortest_chain(other, module))
    }
    assert circles == {}


@pytest.mark.parametrize("module", BASE)
def test_models_depend_on_no_storage_and_no_service(graph: grimp.ImportGraph, module: str) -> None:
    """S0.33."""
    known = graph.find_upstream_modules(module)
    assert not known & {*ABOVE, "session_adapter.reading", "session_adapter.writing", "session_adapter.events"}


def test_services_do_not_know_each_other(graph: grimp.ImportGraph) -> None:
    """S0.33: the typed view and the views of dicts and scopes stand beside each other."""
    assert not graph.find_upstream_modules("session_adapter.repository") & {*ABOVE}
    assert not graph.find_upstream_modules("session_adapter.scoped") & {"session_adapter.repository"}
