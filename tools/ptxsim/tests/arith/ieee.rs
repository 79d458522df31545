//! What IEEE 754 says of arithmetic, by exact numbers. Every NaN is the one without payload that has all
//! its bits but the sign.

use ptxsim::arith::formats::Rounding;

use crate::exact::{Spec, Value};

/// What IEEE 754 says of `a * b + c`; `c` absent for a product.
pub fn fused(to: Spec, a: Value, b: Value, c: Option<Value>, mode: Rounding) -> u64 {
    let nan = to.sign() - 1;
    let infinity = |negative| to.limit() | if negative { to.sign() } else { 0 };
    let sign = |value: &Value| match value {
        Value::Nan => false,
        Value::Infinity { negative } | Value::Finite { negative, .. } => *negative,
    };
    let negative = sign(&a) != sign(&b);
    let product = match (&a, &b) {
        (Value::Nan, _) | (_, Value::Nan) => return nan,
        (Value::Infinity { .. }, Value::Finite { value, .. })
        | (Value::Finite { value, .. }, Value::Infinity { .. })
            if value.is_zero() =>
        {
            return nan;
        }
        (Value::Infinity { .. }, _) | (_, Value::Infinity { .. }) => None,
        (Value::Finite { value: a, .. }, Value::Finite { value: b, .. }) => Some(a.times(b)),
    };
    let Some(c) = c else {
        return match product {
            None => infinity(negative),
            Some(product) => to.round_ieee(&product, negative, mode),
        };
    };
    match (product, &c) {
        (_, Value::Nan) => nan,
        (None, Value::Infinity { negative: other }) if *other != negative => nan,
        (None, _) => infinity(negative),
        (_, Value::Infinity { negative }) => infinity(*negative),
        (Some(product), Value::Finite { negative: c_negative, value }) => {
            let zero = if negative == *c_negative { negative } else { mode == Rounding::Down };
            to.round_ieee(&product.plus(value), zero, mode)
        }
    }
}

/// `a / b`.
pub fn quotient(spec: Spec, a: u64, b: u64, mode: Rounding) -> u64 {
    let negative = (a ^ b) & spec.sign() != 0;
    let sign = if negative { spec.sign() } else { 0 };
    let zero = |value: &Value| matches!(value, Value::Finite { value, .. } if value.is_zero());
    match (spec.value(a), spec.value(b)) {
        (Value::Nan, _) | (_, Value::Nan) => spec.sign() - 1,
        (Value::Infinity { .. }, Value::Infinity { .. }) => spec.sign() - 1,
        (a, b) if zero(&a) && zero(&b) => spec.sign() - 1,
        (Value::Infinity { .. }, _) => sign | spec.limit(),
        (_, Value::Infinity { .. }) => sign,
        (_, b) if zero(&b) => sign | spec.limit(),
        (Value::Finite { value: a, .. }, Value::Finite { value: b, .. }) => {
            spec.round_ieee(&a.over(&b), negative, mode)
        }
    }
}

/// The square root.
pub fn root(spec: Spec, a: u64, mode: Rounding) -> u64 {
    match spec.value(a) {
        Value::Finite { value, .. } if value.is_zero() => a,
        Value::Infinity { negative: false } => a,
        Value::Finite { negative: false, value } => spec.round_ieee(&value.root(), false, mode),
        _ => spec.sign() - 1,
    }
}
