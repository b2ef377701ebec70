"""The pools' buckets in the local S3 server."""

import io
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import urllib3
from minio.error import MinioException

from minio import Minio
from moorage_operator.local.failure import UpError

PROBE = "moorage-up"
"""What is put and taken away again; the names of all that servers write have a `/`."""


def ensure_buckets(
    endpoint: str, access: str, secret: str, names: Iterable[str], give_up: Callable[[], bool]
) -> None:
    """Make the buckets that are not there, and see that each takes an object. Tried again until `give_up`, since a
    store may answer before it can: the gateway of SeaweedFS is up before the servers of its volumes are found.
    """
    http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=1, read=5), retries=False)
    client = Minio(
        urlsplit(endpoint).netloc,
        access_key=access,
        secret_key=secret,
        secure=False,
        region="us-east-1",
        http_client=http,
    )
    for name in names:
        while True:
            try:
                if not client.bucket_exists(name):
                    client.make_bucket(name)
                client.put_object(name, PROBE, io.BytesIO(b"moorage"), len(b"moorage"))
                client.remove_object(name, PROBE)
                break
            except (MinioException, urllib3.exceptions.HTTPError) as error:
                if give_up():
                    raise UpError(
                        f"The bucket {name} cannot be made in the local S3 server: {error}"
                    ) from error
                time.sleep(0.1)
