"""Copying a service, its database and the objects of its store, to a folder and back."""

from core.backup.restore import restore
from core.backup.save import BackupFailed, Copied, save

__all__ = ["BackupFailed", "Copied", "restore", "save"]
