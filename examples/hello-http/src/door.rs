//! From `wasi:http` to an answer, and back.

use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam},
};

use crate::answer;

struct HelloHttp;

wasip2::http::proxy::export!(HelloHttp);

impl Guest for HelloHttp {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let headers = request.headers().entries().into_iter();
        let headers: Vec<_> =
            headers.map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect();
        let path = request.path_with_query().unwrap_or_else(|| "/".to_owned());
        let answer = answer::to(&method(&request.method()), &path, &headers);

        let fields = Fields::new();
        // Both names and values are ours, and right.
        let _ = fields.append("content-type", answer.kind.as_bytes());
        let _ = fields.append("content-length", answer.body.len().to_string().as_bytes());
        let response = OutgoingResponse::new(fields);
        let _ = response.set_status_code(answer.status);
        let Ok(body) = response.body() else { return };
        // The head goes first, the body follows.
        ResponseOutparam::set(out, Ok(response));
        if let Ok(stream) = body.write() {
            for piece in answer.body.as_bytes().chunks(4096) {
                if stream.blocking_write_and_flush(piece).is_err() {
                    return;
                }
            }
        }
        let _ = OutgoingBody::finish(body, None);
    }
}

fn method(method: &Method) -> String {
    match method {
        Method::Get => "GET".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Delete => "DELETE".to_owned(),
        Method::Connect => "CONNECT".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Trace => "TRACE".to_owned(),
        Method::Patch => "PATCH".to_owned(),
        Method::Other(name) => name.clone(),
    }
}
