"""The guest agent: one beside each database server, which it drives through an engine and reports on."""
