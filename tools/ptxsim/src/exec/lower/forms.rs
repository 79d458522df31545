//! Modifiers and types that the ISA gives to instructions whose lowering would not miss the others.

use super::types;
use crate::ptx::ast::{Instruction, Type};

/// Opcodes, and all words that may follow one, in any order.
const FORMS: [(&str, &str); 31] = [
    ("add sub", "u16 u32 u64 s16 s32 s64 u16x2 s16x2 sat cc"),
    ("addc subc", "u32 u64 s32 s64 cc"),
    ("mul", "u16 u32 u64 s16 s32 s64 lo hi wide"),
    ("mad", "u16 u32 u64 s16 s32 s64 lo hi wide sat cc"),
    ("madc", "u32 u64 s32 s64 lo hi cc"),
    ("mul24", "u32 s32 lo hi"),
    ("mad24", "u32 s32 lo hi sat"),
    ("div rem sad", "u16 u32 u64 s16 s32 s64"),
    ("min max", "u16 u32 u64 s16 s32 s64 u16x2 s16x2 relu"),
    ("abs neg", "s16 s32 s64"),
    ("and or xor not", "b16 b32 b64 pred"),
    ("cnot shl", "b16 b32 b64"),
    ("shr", "b16 b32 b64 u16 u32 u64 s16 s32 s64"),
    ("shf", "l r wrap clamp b32"),
    ("popc clz brev bfi", "b32 b64"),
    ("bfe", "u32 u64 s32 s64"),
    ("bfind", "u32 u64 s32 s64 shiftamt"),
    ("bra", "uni"),
    ("brx", "idx uni"),
    ("ret", "uni"),
    ("exit trap", ""),
    ("nanosleep", "u32"),
    ("activemask", "b32"),
    ("elect", "sync"),
    ("vote", "sync all any uni ballot pred b32"),
    ("shfl", "sync up down bfly idx b32"),
    ("match", "any all sync b32 b64"),
    (
        "bar barrier",
        "cta warp cluster sync arrive wait red aligned popc and or acquire release relaxed u32 pred",
    ),
    (
        "membar fence",
        "sc acq_rel acquire release cta gl cluster gpu sys proxy alias async async::generic global \
         shared::cta shared::cluster generic mbarrier_init tensormap::generic \
         sync_restrict::shared::cta sync_restrict::shared::cluster",
    ),
    (
        "prefetch prefetchu",
        "global local param const tensormap L1 L2 L2::evict_last L2::evict_normal",
    ),
    ("griddepcontrol", "wait launch_dependents"),
];

/// The modifier that the instruction cannot have. Of floating-point instructions their lowering knows.
pub(super) fn unknown(i: &Instruction) -> Option<&str> {
    use Type::*;
    let float = |ty: &Type| matches!(ty, F16 | F16x2 | Bf16 | Bf16x2 | F32 | F64);
    let carries = i.modifiers.iter().any(|m| m == "cc");
    if types(i).iter().any(float) && !carries {
        return None;
    }
    let form = FORMS.iter().find(|form| form.0.split(' ').any(|opcode| opcode == i.opcode))?;
    let known = |modifier: &str| form.1.split_whitespace().any(|word| word == modifier);
    i.modifiers.iter().map(String::as_str).find(|modifier| !known(modifier))
}
