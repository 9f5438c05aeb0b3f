"""The store that the settings name."""

from core.artifacts.local import LocalStore
from core.artifacts.store import Store
from core.errors import StoreUnavailable
from core.settings import Settings


def configured_store(settings: Settings) -> Store:
    """A folder, or S3 where PRUNERY_STORE_URL is set; raises StoreUnavailable when S3 lacks its library."""
    if settings.store_url is None:
        return LocalStore(settings.store_dir)
    try:
        from core.artifacts.s3 import S3Store  # boto3 is for those only who use it
    except ModuleNotFoundError as error:
        raise StoreUnavailable(f"PRUNERY_STORE_URL needs {error.name}: pip install 'prunery[s3]'.") from error
    return S3Store.from_settings(settings)
