"""Another server chain for clients that dial a certain name, and who of them took it.

Python's ``sni_callback`` expects OpenSSL's handle to be one of Python's own, which those of the fast transports are
not: it ends the process there. So OpenSSL's own callback is set, as for client certificates (tls.py). Whether a
connection took the other chain is then asked of the handle, which every TLS object holds in its own memory.
"""

import ctypes
from typing import Any, Final

_SET_SERVER_NAME_CALLBACK: Final = 53  # SSL_CTRL_SET_TLSEXT_SERVERNAME_CB
_HOST_NAME: Final = 0
_GO_ON: Final = 0
_MOST: Final = 50_000
_WORD: Final = ctypes.sizeof(ctypes.c_void_p)
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)

# by context: as long as any context may call them, which is as long as the process
_callbacks: Final[dict[int, Any]] = {}
# handles whose handshake was given the other chain; one that is used again is judged again
_given_other: Final[set[int]] = set()


def answer_for(name: str, context: int, other: int, library: Any) -> None:
    """context, other: pointers of contexts that live as long as the process."""
    library.SSL_get_servername.argtypes = (ctypes.c_void_p, ctypes.c_int)
    library.SSL_get_servername.restype = ctypes.c_char_p
    library.SSL_set_SSL_CTX.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    library.SSL_set_SSL_CTX.restype = ctypes.c_void_p
    library.SSL_CTX_callback_ctrl.argtypes = (ctypes.c_void_p, ctypes.c_int, _Callback)
    library.SSL_CTX_callback_ctrl.restype = ctypes.c_long
    wanted = name.lower().encode()

    def choose(handle: int, _alert: int, _argument: int) -> int:
        dialled = library.SSL_get_servername(handle, _HOST_NAME)
        if dialled is not None and dialled.lower() == wanted:
            library.SSL_set_SSL_CTX(handle, other)
            if len(_given_other) >= _MOST:
                _given_other.clear()  # those that are connected now show it when they come again
            _given_other.add(handle)
        else:
            _given_other.discard(handle)
        return _GO_ON

    _callbacks[context] = _Callback(choose)
    library.SSL_CTX_callback_ctrl(context, _SET_SERVER_NAME_CALLBACK, _callbacks[context])


def took_other_chain(tls: Any) -> bool:
    """Of a connection whose handshake is over. tls: an ssl.SSLObject, what the fast transports have for it, or None."""
    if not _given_other or tls is None:
        return False
    holder = getattr(tls, "_sslobj", tls)
    words = (ctypes.c_void_p * (type(holder).__basicsize__ // _WORD)).from_address(id(holder))
    return not _given_other.isdisjoint(words)
