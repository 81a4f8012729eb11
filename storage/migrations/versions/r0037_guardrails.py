"""Keep the sums of guardrails beside those of inference."""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("inference_states", sa.Column("guardrails", sa.LargeBinary(), nullable=True))
    op.add_column("retained_sums", sa.Column("guardrails", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("retained_sums", "guardrails")
    op.drop_column("inference_states", "guardrails")
