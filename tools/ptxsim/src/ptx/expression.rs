//! Literals and constant expressions, with the types and rules of C as PTX has them.

use super::Error;
use super::cursor::Cursor;
use super::lexer::Token;

/// How deep parentheses may nest: far beyond any use, and no danger to the stack.
const MAX_DEPTH: u32 = 64;

/// A constant. Integers are 64 bits, signed unless a `U`, a size or a cast says otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Constant {
    Signed(i64),
    Unsigned(u64),
    /// Bits of `0f…`; no operator takes it.
    Single(u32),
    Double(f64),
}

impl Constant {
    /// The integer, or nothing for a float.
    pub fn integer(self) -> Option<i128> {
        match self {
            Constant::Signed(value) => Some(value.into()),
            Constant::Unsigned(value) => Some(value.into()),
            Constant::Single(_) | Constant::Double(_) => None,
        }
    }

    fn boolean(value: bool) -> Self {
        Constant::Signed(value.into())
    }
}

/// A constant expression.
pub(super) fn constant(cursor: &mut Cursor<'_>) -> Result<Constant, Error> {
    ternary(cursor, 0)
}

/// A constant expression that must be an integer.
pub(super) fn integer(cursor: &mut Cursor<'_>, what: &str) -> Result<i128, Error> {
    let line = cursor.line();
    let wrong = |found: &str| Error { line, message: format!("expected {what}, found {found}") };
    constant(cursor)?.integer().ok_or_else(|| wrong("a floating-point number"))
}

/// An integer in the range of a size, an index or a count.
pub(super) fn count<T: TryFrom<i128>>(cursor: &mut Cursor<'_>, what: &str) -> Result<T, Error> {
    let line = cursor.line();
    let value = integer(cursor, what)?;
    T::try_from(value)
        .map_err(|_| Error { line, message: format!("expected {what}, found {value}") })
}

/// A plain integer literal: `.loc` and its like, where an expression has no end of its own.
pub(super) fn number(cursor: &mut Cursor<'_>, what: &str) -> Result<u32, Error> {
    let Token::Number(text) = cursor.peek() else { return Err(cursor.expected(what)) };
    let value = literal(text).and_then(Constant::integer).and_then(|v| u32::try_from(v).ok());
    let value = value.ok_or_else(|| cursor.expected(what))?;
    cursor.advance();
    Ok(value)
}

fn literal(text: &str) -> Option<Constant> {
    if let Some(bits) = strip_prefix(text, "0f") {
        return (bits.len() == 8)
            .then(|| u32::from_str_radix(bits, 16).ok().map(Constant::Single))?;
    }
    if let Some(bits) = strip_prefix(text, "0d") {
        let bits = (bits.len() == 16).then(|| u64::from_str_radix(bits, 16).ok())??;
        return Some(Constant::Double(f64::from_bits(bits)));
    }
    let is_hexadecimal = strip_prefix(text, "0x").is_some();
    if !is_hexadecimal && text.contains(['.', 'e', 'E']) {
        return text.parse().ok().map(Constant::Double);
    }
    let (digits, unsigned) = match text.strip_suffix(['U', 'u']) {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let value = if let Some(digits) = strip_prefix(digits, "0x") {
        u64::from_str_radix(digits, 16)
    } else if let Some(digits) = strip_prefix(digits, "0b") {
        u64::from_str_radix(digits, 2)
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(&digits[1..], 8)
    } else {
        digits.parse()
    };
    let value = value.ok()?;
    Some(match i64::try_from(value) {
        Ok(value) if !unsigned => Constant::Signed(value),
        _ => Constant::Unsigned(value),
    })
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let start = text.get(..prefix.len())?;
    let rest = &text[prefix.len()..];
    // A sign would pass `from_str_radix`; the lexer leaves none here.
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn ternary(cursor: &mut Cursor<'_>, depth: u32) -> Result<Constant, Error> {
    let condition = binary(cursor, 0, depth)?;
    if !cursor.accept("?") {
        return Ok(condition);
    }
    let line = cursor.line();
    deeper(cursor, depth)?;
    let yes = ternary(cursor, depth + 1)?;
    cursor.expect(":")?;
    let no = ternary(cursor, depth + 1)?;
    match condition.integer() {
        Some(condition) => Ok(if condition != 0 { yes } else { no }),
        None => Err(Error { line, message: "the condition of `?` must be an integer".into() }),
    }
}

fn deeper(cursor: &Cursor<'_>, depth: u32) -> Result<(), Error> {
    if depth < MAX_DEPTH {
        return Ok(());
    }
    Err(cursor.error(format!("this expression nests deeper than {MAX_DEPTH}")))
}

/// Binary operators, the loosest binding first.
const LEVELS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

fn binary(cursor: &mut Cursor<'_>, level: usize, depth: u32) -> Result<Constant, Error> {
    let Some(operators) = LEVELS.get(level) else { return unary(cursor, depth) };
    let mut left = binary(cursor, level + 1, depth)?;
    while let Some(operator) = operators.iter().find(|o| cursor.at(o)) {
        let line = cursor.line();
        cursor.advance();
        let right = binary(cursor, level + 1, depth)?;
        left = apply(operator, left, right).map_err(|message| Error { line, message })?;
    }
    Ok(left)
}

fn unary(cursor: &mut Cursor<'_>, depth: u32) -> Result<Constant, Error> {
    deeper(cursor, depth)?;
    let line = cursor.line();
    match cursor.peek() {
        Token::Number(text) => {
            let value = literal(text);
            let value =
                value.ok_or_else(|| cursor.error(format!("`{text}` is not a number PTX knows")))?;
            cursor.advance();
            Ok(value)
        }
        Token::Word("WARP_SZ") => {
            cursor.advance();
            Ok(Constant::Signed(32))
        }
        Token::Mark(operator @ ("-" | "+" | "~" | "!")) => {
            cursor.advance();
            let value = unary(cursor, depth + 1)?;
            negate(operator, value).ok_or_else(|| Error {
                line,
                message: format!("`{operator}` does not take this kind of number"),
            })
        }
        Token::Mark("(") => {
            cursor.advance();
            let cast = [("s64", false), ("u64", true)].into_iter().find(|c| cursor.accept_dot(c.0));
            if let Some((name, unsigned)) = cast {
                cursor.expect(")")?;
                let value = unary(cursor, depth + 1)?.integer();
                let value = value.ok_or_else(|| Error {
                    line,
                    message: format!("(.{name}) takes an integer, found a floating-point number"),
                })?;
                return Ok(typed(value as u64, unsigned));
            }
            let value = ternary(cursor, depth + 1)?;
            cursor.expect(")")?;
            Ok(value)
        }
        _ => Err(cursor.expected("a number or a constant expression")),
    }
}

fn typed(bits: u64, unsigned: bool) -> Constant {
    if unsigned { Constant::Unsigned(bits) } else { Constant::Signed(bits as i64) }
}

fn negate(operator: &str, value: Constant) -> Option<Constant> {
    Some(match (operator, value) {
        ("+", value) if !matches!(value, Constant::Single(_)) => value,
        ("-", Constant::Signed(v)) => Constant::Signed(v.wrapping_neg()),
        ("-", Constant::Unsigned(v)) => Constant::Unsigned(v.wrapping_neg()),
        ("-", Constant::Double(v)) => Constant::Double(-v),
        ("~", Constant::Signed(v)) => Constant::Signed(!v),
        ("~", Constant::Unsigned(v)) => Constant::Unsigned(!v),
        ("!", value) => Constant::boolean(value.integer()? == 0),
        _ => return None,
    })
}

fn apply(operator: &str, left: Constant, right: Constant) -> Result<Constant, String> {
    if let (Some(a), Some(b)) = (left.integer(), right.integer()) {
        let unsigned =
            matches!(left, Constant::Unsigned(_)) || matches!(right, Constant::Unsigned(_));
        return integers(operator, a, b, unsigned, matches!(left, Constant::Unsigned(_)));
    }
    let as_double = |value: Constant| match value {
        Constant::Double(value) => Ok(value),
        Constant::Signed(value) => Ok(value as f64),
        Constant::Unsigned(value) => Ok(value as f64),
        Constant::Single(_) => Err(format!("`{operator}` does not take a 0f literal")),
    };
    let (a, b) = (as_double(left)?, as_double(right)?);
    Ok(match operator {
        "+" => Constant::Double(a + b),
        "-" => Constant::Double(a - b),
        "*" => Constant::Double(a * b),
        "/" => Constant::Double(a / b),
        "==" => Constant::boolean(a == b),
        "!=" => Constant::boolean(a != b),
        "<" => Constant::boolean(a < b),
        "<=" => Constant::boolean(a <= b),
        ">" => Constant::boolean(a > b),
        ">=" => Constant::boolean(a >= b),
        _ => return Err(format!("`{operator}` does not take floating-point numbers")),
    })
}

/// On 64-bit integers; `unsigned` when either side is, shifts by the left side's type alone.
fn integers(
    op: &str,
    left: i128,
    right: i128,
    unsigned: bool,
    left_unsigned: bool,
) -> Result<Constant, String> {
    // The usual conversions: both sides in the common type.
    let convert = |v: i128| if unsigned { i128::from(v as u64) } else { v };
    let (a, b) = (convert(left), convert(right));
    let result = |value: i128| Ok(typed(value as u64, unsigned));
    let shift =
        || u32::try_from(right).ok().filter(|&n| n < 64).ok_or(format!("cannot shift by {right}"));
    match op {
        "+" => result(a + b),
        "-" => result(a - b),
        "*" => result(a.wrapping_mul(b)),
        "/" | "%" if b == 0 => Err("division by zero in a constant expression".into()),
        "/" => result(a / b),
        "%" => result(a % b),
        "&" => result(a & b),
        "|" => result(a | b),
        "^" => result(a ^ b),
        "<<" => Ok(typed((left as u64) << shift()?, left_unsigned)),
        ">>" => Ok(typed((left >> shift()?) as u64, left_unsigned)),
        "==" => Ok(Constant::boolean(a == b)),
        "!=" => Ok(Constant::boolean(a != b)),
        "<" => Ok(Constant::boolean(a < b)),
        "<=" => Ok(Constant::boolean(a <= b)),
        ">" => Ok(Constant::boolean(a > b)),
        ">=" => Ok(Constant::boolean(a >= b)),
        "&&" => Ok(Constant::boolean(left != 0 && right != 0)),
        "||" => Ok(Constant::boolean(left != 0 || right != 0)),
        _ => Err(format!("`{op}` is not an operator on integers")),
    }
}
