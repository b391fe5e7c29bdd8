"""A client of the original's dialect, written from docs/protocol-v1.md alone: nothing of the proxy's code is in it.

It is its own service: what a visitor asks for says what it does. Each thing that happens is one JSON object a line on stdout.
"""

import argparse
import asyncio
import base64
import datetime
import hashlib
import json
import os
import pathlib
import signal
import sys
import uuid

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

TYPE = "https://proxy.brickchain.com/v1/"

# The key of RFC 8037 appendix A.1, whose name the tests know.
ED25519_SEED = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"

# The original's clients give up a connection on which nothing came for so long, in seconds.
PATIENCE = 20


def event(kind, **members):
    print(json.dumps({"event": kind, **members}), flush=True)


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def rfc3339(time):
    return time.isoformat().replace("+00:00", "Z")


def label(data):
    return base64.b32encode(hashlib.sha256(data).digest()).rstrip(b"=").decode().lower()


class Es256:
    """A key on P-256 that is kept in a file, so that the name stays."""

    def __init__(self, path):
        if path.exists():
            self.key = serialization.load_pem_private_key(path.read_bytes(), None)
        else:
            self.key = ec.generate_private_key(ec.SECP256R1())
            kept = self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            path.write_bytes(kept)
        numbers = self.key.public_key().public_numbers()
        x, y = (b64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        self.alg = "ES256"
        self.jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        self.thumbprint = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'

    def sign(self, data):
        r, s = utils.decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class EdDsa:
    """The known key."""

    def __init__(self):
        self.key = ed25519.Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(ED25519_SEED + "="))
        x = b64url(self.key.public_key().public_bytes_raw())
        self.alg = "EdDSA"
        self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": x}
        self.thumbprint = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'

    def sign(self, data):
        return self.key.sign(data)


def token(key, uri, ttl, age):
    payload = {
        "@type": "https://schema.brickchain.com/v2/mandate-token.json",
        "@timestamp": rfc3339(now() - datetime.timedelta(seconds=age)),
        "uri": uri,
        "ttl": ttl,
    }
    parts = [b64url(json.dumps(part).encode()) for part in ({"alg": key.alg, "jwk": key.jwk}, payload)]
    signed = ".".join(parts)
    return signed + "." + b64url(key.sign(signed.encode()))


def document(kind, identity=None, **members):
    head = {"@type": f"{TYPE}{kind}.json", "@timestamp": rfc3339(now()), "@id": identity or str(uuid.uuid4())}
    return json.dumps({**head, **members})


class Client:
    def __init__(self, arguments):
        self.arguments = arguments
        folder = pathlib.Path(arguments.home)
        self.key = EdDsa() if arguments.key == "eddsa" else Es256(folder / "v1-key.pem")
        # A digest is of the thumbprint's bytes, the name base32 of that; a session's of name and label.
        self.name = label(self.key.thumbprint.encode())
        self.sockets = {}

    def expected(self, session):
        return label((self.name + session).encode()) if session else self.name

    async def run(self):
        # What is slow waits for this signal.
        self.released = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.released.set)
        while True:
            try:
                await self.connection()
            except ConnectionClosed as closed:
                frame = closed.rcvd
                event("closed", code=frame.code if frame else None, reason=frame.reason if frame else None)
            except InvalidStatus as refused:
                body = refused.response.body.decode()
                event("refused", status=refused.response.status_code, body=body)
            except (OSError, asyncio.TimeoutError) as error:
                event("failed", error=repr(error))
            if not self.arguments.reconnect:
                return
            await asyncio.sleep(0.1)

    async def connection(self):
        arguments = self.arguments
        url = arguments.url.replace("http", "ws", 1) + "/proxy/subscribe"
        options = {"ping_interval": None, "max_size": None, "compression": None, "proxy": None}
        async with connect(url, origin=arguments.origin, **options) as self.socket:
            self.tasks = set()
            self.waiting = {}
            for session in arguments.session or [None]:
                uri = arguments.uri or arguments.url
                mandate = arguments.token or token(self.key, uri, arguments.ttl, arguments.age)
                event("token", token=mandate)
                identity = str(uuid.uuid4())
                self.waiting[identity] = session
                members = {"session": session} if session else {}
                await self.socket.send(document("registration-request", identity, mandateToken=mandate, **members))
            while True:
                frame = await asyncio.wait_for(self.socket.recv(), PATIENCE)
                await self.received(frame)

    async def received(self, frame):
        try:
            read = json.loads(frame)
            kind = read["@type"].removeprefix(TYPE).removesuffix(".json")
        except (ValueError, TypeError, KeyError):
            event("text", text=frame)
            return
        identity = read.get("@id")
        if kind == "ping":
            event("ping", members=sorted(read))
        elif kind == "registration-response":
            expected = self.expected(self.waiting.pop(identity))
            event("registered", name=read["keyID"], hostname=read.get("hostname"), expected=expected)
        elif kind == "http-request":
            task = asyncio.create_task(self.answer(read))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif kind == "ws-request":
            event("ws-request", url=read["url"], query=read.get("query"), headers=read["headers"])
            ok = not read["url"].startswith("/refuse")
            answer = {"ok": True} if ok else {"ok": False, "error": "dial tcp 10.0.0.7:80: refused"}
            await self.socket.send(document("ws-response", identity, **answer))
        elif kind == "ws-message":
            await self.message(identity, read)
        elif kind == "ws-teardown":
            event("ws-teardown", id=identity)

    async def answer(self, request):
        url, body = request["url"], base64.b64decode(request["body"])
        event("http-request", method=request["method"], url=url, length=len(body))
        status, headers, kind = 200, {"X-Service": "v1"}, "application/json"
        if url.startswith("/size/"):
            answer, kind = bytes(n % 251 for n in range(int(url.removeprefix("/size/")))), "application/octet-stream"
        elif url.startswith("/echo-body"):
            answer, kind = body, "application/octet-stream"
        elif url.startswith("/never"):
            return
        elif url.startswith("/slow"):
            await self.released.wait()
            answer = b"slow"
        elif url.startswith("/spoilt"):
            await self.socket.send(document("http-response", request["@id"], status=200, body="%"))
            return
        elif url.startswith("/status/"):
            status, answer = int(url.removeprefix("/status/")), b""
        else:
            members = {name: request.get(name) for name in ("method", "url", "query", "headers")}
            answer = json.dumps({**members, "sha256": hashlib.sha256(body).hexdigest()}).encode()
        encoded = base64.b64encode(answer).decode()
        members = {"headers": headers, "contentType": kind, "status": status, "body": encoded}
        await self.socket.send(document("http-response", request["@id"], **members))
        if url.startswith("/disconnect"):
            await self.socket.send(document("disconnect"))

    async def message(self, identity, read):
        body = read["body"]
        event("ws-message", body=body[:100], type=read["messageType"])
        if body == "close":
            await self.socket.send(document("ws-teardown", identity))
        elif body == "binary":
            await self.socket.send(document("ws-message", identity, messageType=2, body="\ufffd"))
        else:
            await self.socket.send(document("ws-message", identity, messageType=1, body=body))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url", help="the proxy, without a path")
    parser.add_argument("--key", choices=["es256", "eddsa"], default="es256")
    parser.add_argument("--home", default=os.environ.get("HOME", "."), help="where a key is kept")
    parser.add_argument("--session", action="append", help="a label; once for each registration")
    parser.add_argument("--uri", help="what tokens say was dialled, in place of the truth")
    parser.add_argument("--ttl", type=int, default=60)
    parser.add_argument("--age", type=int, default=0, help="how old tokens are, in seconds")
    parser.add_argument("--token", help="a token to use in place of a new one")
    parser.add_argument("--origin", help="as a page of a browser would say")
    parser.add_argument("--reconnect", action="store_true")
    asyncio.run(Client(parser.parse_args()).run())


if __name__ == "__main__":
    sys.exit(main())
