"""Absolute addresses in replies."""

from fastapi import Request

from core.settings import Settings


def base_url(request: Request, settings: Settings) -> str:
    """The address of the service without a slash at the end: as configured, else as this client asked."""
    return (settings.public_url or str(request.base_url)).rstrip("/")
