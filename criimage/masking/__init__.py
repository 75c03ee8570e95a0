"""What nobody may read, taken out of texts before they go to a client, a log, a metric or a view.

A registry can send back whatever it was sent, in any spelling, and what it says is passed on to whoever asked. So
texts are masked twice:

    by value    what this request and this machine know: passwords, tokens, what auth files hold, as they are, escaped
                for a URL, JSON or HTML, and in base64, also inside of something longer that was encoded as a whole
    by form     what looks like a secret whosever it is: an Authorization value, a bearer token, `user:password@host`,
                the query of a URL, `password=...`, base64 of `user:password`. All that is known of the answers of
                credential helpers, which never pass through us

Values of fewer than four characters are masked only in a secret's place (the forms), or every text would be torn.

A text is cut here, before it is masked: all of this takes time in proportion to its length. Whoever writes it may put a
secret where it is cut, by us or by the tool that passes it on, so a part of one is masked at each such place.

values         what is known, and is looked for wherever it stands
spellings      how a value may be written
forms          what looks like a secret
"""

from criimage.masking.forms import MASK, mask_forms
from criimage.masking.values import NO_SECRETS, Secrets

__all__ = ["MASK", "NO_SECRETS", "Secrets", "mask_forms"]
