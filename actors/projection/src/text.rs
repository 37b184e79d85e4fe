//! Enums as text columns.

use crate::cell::CellError;
use crate::cell::CellReader;
use crate::cell::write_bytes;
use crate::cell::write_null;
use crate::value::required;

/// A closed set of names, such as a status, that a column stores as `text`.
/// Derive it for enums without fields, and put `#[row(text)]` on the row's field.
///
/// # Contract
/// `from_text(v.as_text())` is `Some(v)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored as text",
    label = "marked `#[row(text)]`",
    note = "derive `TextValue` on the enum, or implement it by hand"
)]
pub trait TextValue: Sized {
    /// The name that is stored.
    fn as_text(&self) -> &str;
    /// The value of that name, `None` for an unknown name.
    fn from_text(text: &str) -> Option<Self>;
}

/// A field marked `#[row(text)]`: a [`TextValue`] or an `Option` of one.
/// Generated code calls it; there is no need to implement it.
pub trait TextCell: Sized {
    /// Whether null is a value of this type.
    const NULLABLE: bool;
    /// Appends the value's cell.
    fn write_text(&self, out: &mut Vec<u8>);
    /// Reads the value from the next cell.
    ///
    /// # Errors
    /// [`CellError`] when the cell is null or holds an unknown name.
    fn read_text(cells: &mut CellReader<'_>) -> Result<Self, CellError>;
}

impl<T: TextValue> TextCell for T {
    const NULLABLE: bool = false;

    #[inline]
    fn write_text(&self, out: &mut Vec<u8>) {
        write_bytes(out, self.as_text().as_bytes());
    }

    fn read_text(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        let bytes = required(cells)?;
        std::str::from_utf8(bytes)
            .ok()
            .and_then(T::from_text)
            .ok_or_else(|| {
                let name = String::from_utf8_lossy(bytes);
                cells.error(format!("{name:?} is not one of the column's names"))
            })
    }
}

impl<T: TextValue> TextCell for Option<T> {
    const NULLABLE: bool = true;

    fn write_text(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write_text(out),
            None => write_null(out),
        }
    }

    fn read_text(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        let mut probe = cells.clone();
        if probe.next_cell()?.is_none() {
            *cells = probe;
            return Ok(None);
        }
        T::read_text(cells).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Light {
        Red,
        Green,
    }

    impl TextValue for Light {
        fn as_text(&self) -> &str {
            match self {
                Self::Red => "red",
                Self::Green => "green",
            }
        }

        fn from_text(text: &str) -> Option<Self> {
            [Self::Red, Self::Green]
                .into_iter()
                .find(|light| light.as_text() == text)
        }
    }

    fn comes_back<T: TextCell + PartialEq + std::fmt::Debug>(value: T, cell: &[u8]) {
        let mut out = Vec::new();
        value.write_text(&mut out);
        assert_eq!(out, cell);
        out.push(9);
        let mut cells = CellReader::new(&out);
        assert_eq!(T::read_text(&mut cells), Ok(value));
        assert_eq!(cells.rest(), [9], "what follows is another cell");
    }

    #[test]
    fn a_name_comes_back_from_its_cell_and_an_unknown_one_is_refused() {
        comes_back(Light::Red, b"\0\0\0\x03red");
        comes_back(Some(Light::Green), b"\0\0\0\x05green");
        comes_back(None::<Light>, b"\xff\xff\xff\xff");
        let read = |cell: &[u8]| {
            let light = Light::read_text(&mut CellReader::new(cell));
            light.map_err(|error| error.to_string())
        };
        assert_eq!(
            read(b"\0\0\0\x04blue"),
            Err("cell 0: \"blue\" is not one of the column's names".to_owned())
        );
        assert_eq!(
            read(b"\xff\xff\xff\xff"),
            Err("cell 0: null in a column that is not an Option".to_owned())
        );
    }
}
