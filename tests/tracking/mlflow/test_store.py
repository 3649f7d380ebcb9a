import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    REQUEST_LIMIT_EXCEEDED,
    RESOURCE_DOES_NOT_EXIST,
    UNAUTHENTICATED,
)
from sqlalchemy.exc import OperationalError

from ssd.tracking.mlflow.outbox import TryAgainError
from ssd.tracking.mlflow.store import Settings, Store, _may_pass


@pytest.mark.parametrize(("error", "passes"), [
    (MlflowException("x", INTERNAL_ERROR), True),
    (MlflowException("x", REQUEST_LIMIT_EXCEEDED), True),
    (MlflowException("x", UNAUTHENTICATED), True),  # whoever sends it later may be known to the server
    (MlflowException("x", PERMISSION_DENIED), True),
    (MlflowException("x", INVALID_PARAMETER_VALUE), False),
    (MlflowException("x", RESOURCE_DOES_NOT_EXIST), False),
    (requests.Timeout(), True),
    (requests.ConnectionError(), True),
    (OperationalError("insert", {}, Exception("database is locked")), True),
    (FileNotFoundError("gone.params"), False),
    (ValueError("a bug"), False),
])  # fmt: skip
def test_what_another_attempt_can_help(error, passes):
    assert _may_pass(error) == passes


def test_whatever_keeps_a_run_from_being_made_is_tried_again(run):
    """Nothing can be recorded without the run, so all that follows would be lost with it."""
    store = Store(Settings("nonsense://host", "/unused", "ssd", None), run, go_on=False)
    for kind, content in (("run", [None]), ("metrics", [({"train/loss": 1.0}, 1, 1)])):
        with pytest.raises(TryAgainError) as caught:
            store.send(kind, content)
        assert "\n" not in str(caught.value)
