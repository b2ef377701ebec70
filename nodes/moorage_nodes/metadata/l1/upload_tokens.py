"""The upload token: a capability that names one upload of one user (DESIGN.md, Metadata in etcd)."""

from moorage.core.errors import ForbiddenError, UnauthenticatedError, UploadEndedError
from moorage_nodes.metadata.l1.context import L1, Caller
from moorage_nodes.tokens import Audience, TokenExpiredError, TokenRefusedError, upload_too_old


def sign_upload_token(server: L1, caller: Caller, upload_id: str) -> str:
    token, claims = server.signer.issue(
        Audience.UPLOAD,
        caller.namespace,
        server.cluster.upload_max,
        ns=caller.namespace,
        upload=upload_id,
        server_key=server.cluster.server_key,
        inc=server.incarnation,
        gen=caller.generation,
    )
    server.verifier.remember(token, claims, server.signer.kid)
    return token


def parse_upload_token(server: L1, caller: Caller, token: str) -> str:
    """The upload that a token names. 401 for what is none, 403 for another user's, 410 `upload_ended` for one
    that cannot be of an open upload: too old, or from before the cluster was restored.
    """
    try:
        claims = server.verifier.verify(token, Audience.UPLOAD)
    except TokenExpiredError:
        raise upload_too_old() from None
    except TokenRefusedError:
        raise UnauthenticatedError("`upload_token` must be the one that /update answered.") from None
    if claims.subject != caller.namespace or claims.text("ns") != caller.namespace:
        raise ForbiddenError("This upload is another user's.")
    if claims.text("server_key") != server.cluster.server_key:
        raise UploadEndedError(
            "This upload was begun on another metadata cluster: begin a new one with /update."
        )
    if claims.text("inc") != server.incarnation:
        raise UploadEndedError(
            "The metadata was restored since this upload was begun: begin a new one with /update."
        )
    return claims.text("upload")
