"""Alembic's environment: the connection, and its one transaction, come from the registry that is being opened."""

from alembic import context

from hubkeep.store.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
