"""Browsers, and the push service that reaches them: takes web pushes, checks who sent them, and opens them.

A second implementation of the RFCs: `http_ece` opens what RFC 8291 sealed, `py_vapid` and `cryptography` check the token.

GET  /browser/NAME     a new subscription, as JSON.stringify gives it
POST /push/NAME        a push: 201, or the status that the name says (gone-410, later-429, ...)
GET  /received         what was opened, as JSON
"""

import base64
import http.server
import json
import os
import socket
import sys
import time

import http_ece
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

port = int(sys.argv[1])
origin = f"http://127.0.0.1:{port}"
browsers = {}
received = []


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def subscribe(name):
    if name not in browsers:
        browsers[name] = (ec.generate_private_key(ec.SECP256R1()), os.urandom(16))
    key, auth = browsers[name]
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    keys = {"p256dh": encode(point), "auth": encode(auth)}
    return {"endpoint": f"{origin}/push/{name}", "expirationTime": None, "keys": keys}


def check_vapid(header):
    """RFC 8292: raises where a push service would answer 401."""
    scheme, parts = header.split(" ", 1)
    assert scheme == "vapid", scheme
    fields = dict(part.strip().split("=", 1) for part in parts.split(","))
    head, claims, signature = fields["t"].split(".")
    raw = decode(signature)
    assert len(raw) == 64, "ES256 signatures have 64 bytes"
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decode(fields["k"]))
    der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key.verify(der, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    assert json.loads(decode(head)) == {"alg": "ES256", "typ": "JWT"}, head
    claims = json.loads(decode(claims))
    assert claims["aud"] == origin, claims
    assert claims["sub"].startswith(("mailto:", "https:")), claims
    assert time.time() < claims["exp"] <= time.time() + 86_400, claims
    return fields["k"]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        _, what, *rest = self.path.split("/")
        found = subscribe(rest[0]) if what == "browser" else received
        self.answer(200, json.dumps(found).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = self.path.rsplit("/", 1)[1]
        if name not in browsers:
            return self.answer(404)
        if len(body) > 4096:
            return self.answer(413)
        try:
            key = check_vapid(self.headers["Authorization"])
        except (AssertionError, InvalidSignature, KeyError, ValueError) as wrong:
            return self.answer(401, str(wrong).encode())
        if self.headers["Content-Encoding"] != "aes128gcm" or not self.headers["TTL"].isdigit():
            return self.answer(400)
        word, _, status = name.partition("-")
        if status:
            headers = [("Retry-After", "120")] if word == "later" else []
            if status == "lost":
                return self.connection.shutdown(socket.SHUT_RDWR)
            return self.answer(int(status), headers=headers)
        private, auth = browsers[name]
        opened = http_ece.decrypt(body, private_key=private, auth_secret=auth, version="aes128gcm")
        received.append(
            {
                "browser": name,
                "message": json.loads(opened),
                "ttl": int(self.headers["TTL"]),
                "urgency": self.headers["Urgency"],
                "topic": self.headers["Topic"],
                "key": key,
            }
        )
        self.answer(201, headers=[("Location", f"{origin}/message/{len(received)}")])

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
