"""Sessions over HTTP: the answers of AgentOS's `/sessions`, on any storage."""
