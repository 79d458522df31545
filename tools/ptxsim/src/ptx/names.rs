//! Spellings of types and special registers.

use super::ast::{Special, Type};

impl Type {
    /// From its spelling without the dot, e.g. `u32`.
    pub fn parse(name: &str) -> Option<Type> {
        Some(match name {
            "b8" => Type::B8,
            "b16" => Type::B16,
            "b32" => Type::B32,
            "b64" => Type::B64,
            "b128" => Type::B128,
            "u8" => Type::U8,
            "u16" => Type::U16,
            "u32" => Type::U32,
            "u64" => Type::U64,
            "s8" => Type::S8,
            "s16" => Type::S16,
            "s32" => Type::S32,
            "s64" => Type::S64,
            "f16" => Type::F16,
            "f16x2" => Type::F16x2,
            "bf16" => Type::Bf16,
            "bf16x2" => Type::Bf16x2,
            "f32" => Type::F32,
            "f64" => Type::F64,
            "pred" => Type::Pred,
            _ => return None,
        })
    }

    /// Bytes in memory; 0 for a predicate, which has no place there.
    pub fn bytes(self) -> u32 {
        match self {
            Type::Pred => 0,
            Type::B8 | Type::U8 | Type::S8 => 1,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => 2,
            Type::B32 | Type::U32 | Type::S32 | Type::F16x2 | Type::Bf16x2 | Type::F32 => 4,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 8,
            Type::B128 => 16,
        }
    }
}

/// Special registers that are one value.
const SCALARS: [(&str, Special); 17] = [
    ("laneid", Special::LaneId),
    ("warpid", Special::WarpId),
    ("nwarpid", Special::NWarpId),
    ("smid", Special::SmId),
    ("nsmid", Special::NSmId),
    ("gridid", Special::GridId),
    ("lanemask_eq", Special::LaneMaskEq),
    ("lanemask_le", Special::LaneMaskLe),
    ("lanemask_lt", Special::LaneMaskLt),
    ("lanemask_ge", Special::LaneMaskGe),
    ("lanemask_gt", Special::LaneMaskGt),
    ("clock", Special::Clock),
    ("clock_hi", Special::ClockHi),
    ("clock64", Special::Clock64),
    ("globaltimer", Special::GlobalTimer),
    ("globaltimer_lo", Special::GlobalTimerLo),
    ("globaltimer_hi", Special::GlobalTimerHi),
];

/// Special registers that PTX has and the executor may refuse; those with a `.x` among them.
const OTHERS: [&str; 13] = [
    "is_explicit_cluster",
    "clusterid",
    "nclusterid",
    "cluster_ctaid",
    "cluster_nctaid",
    "cluster_ctarank",
    "cluster_nctarank",
    "aggr_smem_size",
    "reserved_smem_offset_begin",
    "reserved_smem_offset_end",
    "reserved_smem_offset_cap",
    "reserved_smem_offset_0",
    "current_graph_exec",
];

impl Special {
    /// From its name without `%` and the component after its dot, e.g. `tid` and `x`.
    pub fn parse(name: &str, component: Option<&str>) -> Option<Special> {
        let axis =
            component.and_then(|c| ["x", "y", "z"].iter().position(|n| *n == c)).map(|a| a as u8);
        let three = match name {
            "tid" => Some(Special::Tid as fn(u8) -> Special),
            "ntid" => Some(Special::Ntid as _),
            "ctaid" => Some(Special::Ctaid as _),
            "nctaid" => Some(Special::Nctaid as _),
            _ => None,
        };
        let other = || {
            let numbered =
                |prefix| name.strip_prefix(prefix).is_some_and(|n| n.parse::<u8>().is_ok());
            let known = three.is_some()
                || OTHERS.contains(&name)
                || numbered("pm")
                || numbered("envreg")
                || name.strip_suffix("_64").is_some_and(|n| n.starts_with("pm"));
            known.then(|| match component {
                Some(component) => Special::Other(format!("%{name}.{component}")),
                None => Special::Other(format!("%{name}")),
            })
        };
        match (three, axis, component) {
            (Some(three), Some(axis), _) => Some(three(axis)),
            (None, _, None) => match name {
                "dynamic_smem_size" => Some(Special::DynamicSharedBytes),
                "total_smem_size" => Some(Special::TotalSharedBytes),
                _ => SCALARS.iter().find(|s| s.0 == name).map(|s| s.1.clone()).or_else(other),
            },
            _ => other(),
        }
    }
}
