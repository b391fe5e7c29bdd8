"""Adds a header to each request and each response, and refuses what asks for /private without a token.

The names are those of ../../wit/hooks.wit. A result's error is raised as `Err`; a `Fault` is what the plugin's failure policy
acts on.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import types

config: dict = {}


class Lifecycle(exports.Lifecycle):
    def init(self, text: str) -> None:
        config.update(json.loads(text))
        if not isinstance(config.get("token", ""), str):
            raise Err("token has to be a text")


class HttpRequestHook(exports.HttpRequestHook):
    def on_request(self, req):
        token = next(iter(req.header("x-token")), b"").decode("utf-8", "replace")
        if req.path().startswith("/private") and token != config.get("token", "open sesame"):
            return types.HeadVerdict_Respond(
                types.Answer(
                    401,
                    [("content-type", b"text/plain; charset=utf-8")],
                    b"Send the header x-token.\n",
                )
            )
        return forward(types.Edit_Set(("x-filter", b"python")))

    def on_request_body(self, req, state, bytes, last):
        raise Err(types.Fault("no body was asked for"))


class HttpResponseHook(exports.HttpResponseHook):
    def on_response(self, resp, state):
        return forward(types.Edit_Set(("x-filtered-status", str(resp.status()).encode())))

    def on_response_body(self, resp, state, bytes, last):
        raise Err(types.Fault("no body was asked for"))


def forward(*edits):
    return types.HeadVerdict_Forward(types.Forward(list(edits), types.BodyMode.PASS, b""))
