"""Stored secrets: encrypted under the first key, readable by any, plain without one."""

import pytest

from storage.connections.encryption import Cipher, NoEncryptionKey, is_encrypted, parse_keys

FIRST, SECOND = "a" * 32, "b" * 40


def test_cipher_hides_content_and_restores_it():
    sealed = Cipher([FIRST]).seal(b"a secret")
    assert is_encrypted(sealed)
    assert b"a secret" not in sealed
    assert Cipher([FIRST]).unseal(sealed) == b"a secret"


def test_cipher_without_a_key_keeps_content_plain_and_says_so():
    sealed = Cipher().seal(b"a secret")
    assert not Cipher().encrypts
    assert not is_encrypted(sealed)
    assert Cipher().unseal(sealed) == Cipher([FIRST]).unseal(sealed) == b"a secret"


def test_cipher_reads_by_any_key_and_writes_by_the_first():
    old = Cipher([FIRST]).seal(b"a secret")
    both = Cipher([SECOND, FIRST])
    assert both.unseal(old) == b"a secret"
    assert Cipher([SECOND]).unseal(both.seal(both.unseal(old))) == b"a secret"


@pytest.mark.parametrize("keys", [(), (SECOND,)])
def test_cipher_without_the_right_key_says_what_is_missing(keys):
    sealed = Cipher([FIRST]).seal(b"a secret")
    with pytest.raises(NoEncryptionKey, match="BANDITS_ENCRYPTION_KEY") as refused:
        Cipher(keys).unseal(sealed)
    assert FIRST not in str(refused.value)


def test_cipher_refuses_content_that_was_changed():
    sealed = Cipher([FIRST]).seal(b"a secret")
    with pytest.raises(NoEncryptionKey):
        Cipher([FIRST]).unseal(sealed[:-4] + b"AAA=")


def test_cipher_shows_no_key():
    assert FIRST not in repr(Cipher([FIRST]))


def test_parse_keys_parts_them_and_refuses_short_ones():
    assert parse_keys("") == ()
    assert parse_keys(f" {FIRST} , {SECOND},") == (FIRST, SECOND)
    with pytest.raises(ValueError, match="at least 32"):
        parse_keys(f"{FIRST},short")
