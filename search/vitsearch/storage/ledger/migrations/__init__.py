"""Migrations of the ledger, run by alembic."""
