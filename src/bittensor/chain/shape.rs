//! Whether a type that a node describes may be decoded at all.
//!
//! Decoding follows the description. One that contains itself would be followed until the stack
//! ends, and a sequence of nothing would be counted through to whatever length is claimed.

use scale_info::{PortableRegistry, TypeDef, form::PortableForm};

use super::limits::{MAX_DEPTH, MAX_TYPES};

/// Whether the type is finite, of a sane size, and takes room wherever it is repeated.
pub(super) fn is_tame(types: &PortableRegistry, id: u32) -> bool {
    Walk { types, left: MAX_TYPES }.takes_room(id, 0).is_some()
}

struct Walk<'a> {
    types: &'a PortableRegistry,
    left: usize,
}

impl Walk<'_> {
    /// Whether a value of the type takes at least a byte; nothing if the type is not tame.
    fn takes_room(&mut self, id: u32, depth: usize) -> Option<bool> {
        self.left = self.left.checked_sub(1)?;
        if depth > MAX_DEPTH {
            return None;
        }
        let types = self.types;
        match &types.resolve(id)?.type_def {
            TypeDef::Composite(inner) => self.all(inner.fields.iter().map(|f| f.ty.id), depth),
            TypeDef::Tuple(inner) => self.all(inner.fields.iter().map(|f| f.id), depth),
            TypeDef::Variant(inner) => {
                let fields = inner.variants.iter().flat_map(|variant| &variant.fields);
                self.all(fields.map(|f: &scale_info::Field<PortableForm>| f.ty.id), depth)?;
                Some(true)
            }
            TypeDef::Sequence(inner) => self.repeated(inner.type_param.id, depth),
            TypeDef::Array(inner) => {
                Some(self.repeated(inner.type_param.id, depth)? && inner.len > 0)
            }
            TypeDef::Compact(inner) => self.takes_room(inner.type_param.id, depth + 1),
            TypeDef::Primitive(_) | TypeDef::BitSequence(_) => Some(true),
        }
    }

    /// Looks at all of them; whether one takes room.
    fn all(&mut self, ids: impl Iterator<Item = u32>, depth: usize) -> Option<bool> {
        ids.map(|id| self.takes_room(id, depth + 1)).try_fold(false, |any, one| Some(any | one?))
    }

    /// What is repeated must take room.
    fn repeated(&mut self, id: u32, depth: usize) -> Option<bool> {
        self.takes_room(id, depth + 1)?.then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scale_info::{MetaType, Registry, TypeInfo};

    #[derive(TypeInfo)]
    struct Endless(#[expect(dead_code, reason = "only its type matters")] Vec<Endless>);
    #[derive(TypeInfo)]
    struct Nothing;
    #[derive(TypeInfo)]
    struct Neuron {
        _hotkey: [u8; 32],
        _stake: Option<Vec<(u64, bool)>>,
    }

    fn is_tame_type<T: TypeInfo + 'static>() -> bool {
        let mut registry = Registry::new();
        let id = registry.register_type(&MetaType::new::<T>()).id;
        is_tame(&registry.into(), id)
    }

    #[test]
    fn what_is_finite_and_takes_room_is_tame() {
        assert!(is_tame_type::<Neuron>());
        assert!(is_tame_type::<Option<Vec<Neuron>>>());
        assert!(is_tame_type::<Nothing>(), "nothing, once, does no harm");
    }

    #[test]
    fn what_contains_itself_is_not() {
        assert!(!is_tame_type::<Endless>());
        assert!(!is_tame_type::<Option<(u8, Endless)>>());
    }

    #[test]
    fn nor_is_nothing_repeated() {
        assert!(!is_tame_type::<Vec<Nothing>>());
        assert!(!is_tame_type::<[(Nothing, ()); 4]>());
        assert!(!is_tame_type::<(u8, Vec<Vec<()>>)>(), "what is inside counts");
    }

    #[test]
    fn nor_is_what_has_too_many_parts_or_is_not_described() {
        type Four<T> = (T, T, T, T);
        assert!(is_tame_type::<Four<Four<Four<u8>>>>());
        assert!(!is_tame_type::<Four<Four<Four<Four<Four<Four<u8>>>>>>>());
        assert!(!is_tame(&Registry::new().into(), 0));
    }
}
