"""The password of a proxy, which no text may show (cri-o T12), however its variable is written."""

from __future__ import annotations

import pytest

from criimage.reference import Reference
from criimage_containers_storage.registries.credentials import CredentialResolver
from criimage_containers_storage.registries.registries_conf import Registries
from criimage_containers_storage.settings import Settings


@pytest.mark.parametrize(
    ("proxy", "password"),
    [
        ("http://me:correct.horse@proxy:3128", "correct.horse"),
        ("me:correct.horse@proxy:3128", "correct.horse"),
        ("http://me:correct%5Bhorse@[::1]:3128/", "correct[horse"),
        # No URL, so Go uses no proxy and says nothing; here such a variable made every pull an internal error.
        ("http://me:correct[horse@proxy:3128", "correct[horse"),
        ("http://me:cor/rect#horse@proxy:3128", "cor/rect#horse"),
        ("http://[::1", ""),
        ("//@", ""),
        ("", ""),
    ],
)
@pytest.mark.parametrize("variable", ["https_proxy", "ALL_PROXY"])
def test_the_password_of_a_proxy_is_masked(variable: str, proxy: str, password: str) -> None:
    """It is found in every spelling of a variable that may hold one; a variable that is no URL fails nothing."""
    resolver = CredentialResolver(Settings(), {variable: proxy, "HOME": "/nonexistent"})
    found = resolver.resolve(Reference.parse("hub.invalid/app:1"), None, Registries(), "")
    said = f"the proxy says {password} of it"

    assert found.secrets.mask(said) == (said.replace(password, "…") if password else said)
