"""Why a broker's certificate is not trusted, and who can mend it."""

from __future__ import annotations

import ssl

# OpenSSL's X509_V_ERR_...: ``ssl`` hands on the numbers and has no names for them.
_SIGNATURE_FAILURE, _NOT_YET_VALID, _EXPIRED = 7, 9, 10
_SELF_SIGNED, _SELF_SIGNED_IN_CHAIN, _NO_ISSUER_HERE, _LEAF_UNVERIFIED, _NO_ISSUER = 18, 19, 20, 21, 2
_HOST_MISMATCH, _ADDRESS_MISMATCH = 62, 64
_UNKNOWN_ISSUER = frozenset(
    {_SIGNATURE_FAILURE, _SELF_SIGNED, _SELF_SIGNED_IN_CHAIN, _NO_ISSUER_HERE, _LEAF_UNVERIFIED, _NO_ISSUER}
)


def untrusted(error: ssl.SSLCertVerificationError, ca_file: str | None) -> str:
    """The reason with what to do about it; ``ca_file`` is what we were told to trust."""
    return f"its certificate is not trusted ({error.verify_message}){_advice(error.verify_code, ca_file)}"


def _advice(code: int, ca_file: str | None) -> str:
    if code == _EXPIRED:
        return ": renew it at the broker, or set the clock of this machine if that is ahead"
    if code == _NOT_YET_VALID:
        return ": set the clock of this machine, which may be behind"
    if code in (_HOST_MISMATCH, _ADDRESS_MISMATCH):
        return ": name the broker with --broker as its certificate does"
    if code not in _UNKNOWN_ISSUER:
        return ""
    if ca_file is None:
        return ": name the file of its CA with --ca or EDGEMESH_CA"
    return f": {ca_file} does not hold its CA; put the right certificate there, it is read each time"
