// Adds a header to each request and each response, and refuses what asks for /private without a token.
//
// The functions are those of ../../wit/hooks.wit. A result's error is thrown; `fault` is what the plugin's failure policy
// acts on.

let config = {};

export const lifecycle = {
  init(text) {
    config = JSON.parse(text);
    if (config.token !== undefined && typeof config.token !== "string") {
      throw "token has to be a text";
    }
  },
};

const bytes = (text) => new TextEncoder().encode(text);
const text = (value) => new TextDecoder().decode(value);

export const httpRequestHook = {
  onRequest(request) {
    const [token] = request.header("x-token").map(text);
    if (request.path().startsWith("/private") && token !== (config.token ?? "open sesame")) {
      return {
        tag: "respond",
        val: {
          status: 401,
          headers: [["content-type", bytes("text/plain; charset=utf-8")]],
          body: bytes("Send the header x-token.\n"),
        },
      };
    }
    const edits = [{ tag: "set", val: ["x-filter", bytes("javascript")] }];
    return { tag: "forward", val: { edits, body: "pass", state: new Uint8Array() } };
  },
  onRequestBody() {
    throw { message: "no body was asked for" };
  },
};

export const httpResponseHook = {
  onResponse(response) {
    const edits = [{ tag: "set", val: ["x-filtered-status", bytes(String(response.status()))] }];
    return { tag: "forward", val: { edits, body: "pass", state: new Uint8Array() } };
  },
  onResponseBody() {
    throw { message: "no body was asked for" };
  },
};
