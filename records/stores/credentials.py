"""Where credentials come from: the environment and the profiles that each cloud's own tools read.

They go from here into the client alone, and into no message.
"""

import configparser
import json
import os
from pathlib import Path

_HINTS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_SKIP_SIGNATURE=true "
    "for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login; "
    "GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}
# A profile's own word for each setting of the client.
_FROM_PROFILE = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "region": "region",
    "endpoint_url": "endpoint",
}
_NOT_READ = ("sso_session", "sso_start_url", "role_arn", "credential_process")


def credentials_hint(scheme: str) -> str:
    """What to set, for the error of a request that was refused."""
    hint = _HINTS.get(scheme)
    return f"Name credentials that may do this: {hint}" if hint else "It must be readable for all"


def store_settings(scheme: str) -> dict[str, str]:
    """Settings of the client that it does not find by itself.

    Raises:
      ValueError: the AWS profile is of a kind that is not read; names the command that helps.
    """
    if scheme == "s3":
        return _aws_profile()
    if scheme == "gs" and (emulator := os.environ.get("STORAGE_EMULATOR_HOST")):
        # Google's own clients take this for an emulator without credentials.
        url = emulator if "://" in emulator else f"http://{emulator}"
        key = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": ""}
        return {"service_account_key": json.dumps(key | {"private_key_id": ""})}
    return {}


def _aws_profile() -> dict[str, str]:
    """What a profile of AWS's files says and the environment does not."""
    named = os.environ.get("AWS_PROFILE")
    own = "AWS_ACCESS_KEY_ID" in os.environ or "AWS_SKIP_SIGNATURE" in os.environ
    profile = named or "default"
    found: dict[str, str] = {}
    for variable, default, section in (
        ("AWS_CONFIG_FILE", "~/.aws/config", f"profile {profile}" if named else "default"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", profile),
    ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(Path(os.environ.get(variable, default)).expanduser(), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # its lines may hold secrets: the request's own error follows
        for one in (section, profile):
            found |= dict(parser[one]) if parser.has_section(one) else {}
    settings = {ours: found[theirs] for theirs, ours in _FROM_PROFILE.items() if theirs in found}
    if "AWS_REGION" in os.environ or "AWS_DEFAULT_REGION" in os.environ:
        settings.pop("region", None)
    if any(name in os.environ for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")):
        settings.pop("endpoint", None)
    if own:  # the keys of one place belong together
        return {k: v for k, v in settings.items() if k in ("region", "endpoint")}
    if "access_key_id" not in settings and any(name in found for name in _NOT_READ):
        raise ValueError(
            f"store: the AWS profile {profile!r} expected access keys, received one of another "
            f'kind. Give them to the environment: eval "$(aws configure export-credentials '
            f'--profile {profile} --format env)"'
        )
    return settings
