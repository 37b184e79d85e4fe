//! Stock movements: the payload is a JSON number, the quantity.

use refold_projection::{DecodeError, Payload};

/// The event types that are folded.
pub const HANDLES: &[&str] = &["Received", "Shipped", "Counted", "Delisted"];

/// What happened to an article.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    /// So many came in.
    Received(i64),
    /// So many left.
    Shipped(i64),
    /// Somebody counted: this is what is there.
    Counted(i64),
    /// The article is not kept any more.
    Delisted,
}

/// Decodes the payload of an event of type `kind`.
///
/// # Errors
/// [`DecodeError`] for anything but a whole number that is not negative.
pub fn decode(kind: &str, payload: Payload<'_>) -> Result<Movement, DecodeError> {
    let Payload::Json(text) = payload else {
        return Err(DecodeError::new("stock movements are written as JSON"));
    };
    if kind == "Delisted" {
        return Ok(Movement::Delisted);
    }
    let quantity = text
        .parse::<i64>()
        .ok()
        .filter(|quantity| *quantity >= 0)
        .ok_or_else(|| DecodeError::new(format!("{text} is not a quantity")))?;
    match kind {
        "Received" => Ok(Movement::Received(quantity)),
        "Shipped" => Ok(Movement::Shipped(quantity)),
        "Counted" => Ok(Movement::Counted(quantity)),
        _ => Err(DecodeError::new(format!("{kind} is not a stock movement"))),
    }
}
