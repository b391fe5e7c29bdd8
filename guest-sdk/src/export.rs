//! A plugin as a component: the functions that the host calls.
//!
//! Owns the one instance and the panic hook. All else is `glue`'s.

use std::{any::Any, cell::OnceCell, marker::PhantomData, panic, rc::Rc};

use crate::{
    Fault, Piece, Plugin, Result,
    bindings::{
        lifecycle::exports::tunnel::plugin::lifecycle,
        plugin::{
            exchange::{Request, Response},
            log::{self, Level},
            types::{self, BodyVerdict, HeadVerdict, Side, WsAccept, WsMessage, WsVerdict},
        },
        request::exports::tunnel::plugin::http_request_hook,
        response::exports::tunnel::plugin::http_response_hook,
        tick::exports::tunnel::plugin::tick_hook,
        websocket::exports::tunnel::plugin::ws_hook,
    },
    glue,
};

/// Stands for the plugin in the exports.
pub struct Exported<P>(PhantomData<P>);

thread_local! {
    /// A component has one plugin, but a static can't be generic.
    static INSTANCE: OnceCell<Rc<dyn Any>> = const { OnceCell::new() };
}

fn instance<P: Plugin>() -> Result<Rc<P>, types::Fault> {
    INSTANCE
        .with(|instance| Rc::clone(instance.get()?).downcast().ok())
        .ok_or_else(|| Fault::new("a hook was called before `init`").into())
}

impl From<Fault> for types::Fault {
    fn from(fault: Fault) -> Self {
        Self { message: fault.message().to_owned() }
    }
}

impl<P: Plugin> lifecycle::Guest for Exported<P> {
    fn init(config: String) -> Result<(), String> {
        // A panic traps; without this its message would be lost.
        panic::set_hook(Box::new(|panic| log::write(Level::Error, &panic.to_string(), &[])));
        let plugin = glue::new::<P>(&config).map_err(|fault| fault.message().to_owned())?;
        let first = INSTANCE.with(|instance| instance.set(Rc::new(plugin)).is_ok());
        if first { Ok(()) } else { Err("`init` was called twice".to_owned()) }
    }
}

impl<P: Plugin> http_request_hook::Guest for Exported<P> {
    fn on_request(req: &Request) -> Result<HeadVerdict, types::Fault> {
        Ok(glue::on_request(&*instance::<P>()?, req)?)
    }

    fn on_request_body(
        req: &Request,
        state: Vec<u8>,
        bytes: Vec<u8>,
        last: bool,
    ) -> Result<BodyVerdict, types::Fault> {
        Ok(glue::on_request_body(&*instance::<P>()?, req, &state, Piece { bytes, last })?)
    }
}

impl<P: Plugin> http_response_hook::Guest for Exported<P> {
    fn on_response(resp: &Response, state: Vec<u8>) -> Result<HeadVerdict, types::Fault> {
        Ok(glue::on_response(&*instance::<P>()?, resp, &state)?)
    }

    fn on_response_body(
        resp: &Response,
        state: Vec<u8>,
        bytes: Vec<u8>,
        last: bool,
    ) -> Result<BodyVerdict, types::Fault> {
        Ok(glue::on_response_body(&*instance::<P>()?, resp, &state, Piece { bytes, last })?)
    }
}

impl<P: Plugin> ws_hook::Guest for Exported<P> {
    fn on_open(req: &Request, state: Vec<u8>) -> Result<WsAccept, types::Fault> {
        Ok(glue::on_open(&*instance::<P>()?, req, &state)?)
    }

    fn on_message(sender: Side, message: WsMessage, state: Vec<u8>) -> Result<WsVerdict, types::Fault> {
        Ok(glue::on_message(&*instance::<P>()?, sender, message, &state)?)
    }

    fn on_close(by: Side, code: u16, reason: String, state: Vec<u8>) {
        let done =
            instance::<P>().and_then(|plugin| Ok(glue::on_close(&*plugin, by, code, &reason, &state)?));
        // Nobody waits for an answer.
        if let Err(fault) = done {
            log::write(Level::Error, &fault.message, &[]);
        }
    }
}

impl<P: Plugin> tick_hook::Guest for Exported<P> {
    fn on_tick() -> Result<(), types::Fault> {
        Ok(instance::<P>()?.on_tick()?)
    }
}
