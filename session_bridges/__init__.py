"""Other frameworks' session interfaces on this storage, one file a framework.

``session_bridges.adk`` (extra ``adk``), ``session_bridges.openai_agents`` (extra ``openai-agents``) and
``session_bridges.key_value`` (extra ``key-value``). Each framework is imported by its own file alone, so that importing
this package asks for none of them.
"""
