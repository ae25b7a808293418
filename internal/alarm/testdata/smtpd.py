"""An SMTP server for tests: PORT, then words: starttls, tls, auth, and paths of a certificate
and its key. Prints each message as a line of JSON. Of the sender's domain "slow" nothing is
answered; recipients "no-*" are refused for good, and "later-*" for now."""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Handler:
    async def handle_MAIL(self, server, session, envelope, address, options):
        if address.endswith("@slow"):
            await asyncio.sleep(3600)
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("no-"):
            return "550 5.1.1 no such user"
        if address.startswith("later-"):
            return "451 4.3.0 later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "text": envelope.content.decode("utf-8", "replace"),
            "tls": session.ssl is not None,
            "user": session.auth_data.login.decode() if session.auth_data else "",
        }), flush=True)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"havip", b"s3cret"), handled=False, auth_data=data)


async def main():
    port, words = int(sys.argv[1]), sys.argv[2:]
    context = None
    if "tls" in words or "starttls" in words:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(words[-2], words[-1])
    auth = "auth" in words

    def protocol():
        return SMTP(
            Handler(),
            tls_context=context if "starttls" in words else None,
            require_starttls="starttls" in words,
            auth_required=auth,
            auth_require_tls="tls" not in words,
            authenticator=authenticate if auth else None,
        )

    server = await asyncio.get_running_loop().create_server(
        protocol, "127.0.0.1", port, ssl=context if "tls" in words else None)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


asyncio.run(main())
