//! What a graph's file holds, read in place: large tensors are not copied.

use std::collections::BTreeMap;

use prost::Message as _;

use super::proto::{FLOAT, Node};

/// A matrix of f32 that a graph multiplies with.
#[derive(Debug, PartialEq)]
pub(crate) struct Matrix<'a> {
    pub(crate) name: String,
    pub(crate) dims: [i64; 2],
    /// The values, little-endian, row by row.
    pub(crate) bytes: &'a [u8],
}

/// The constant matrices of a `ModelProto` that its nodes use in one way only: as the second operand
/// of a product.
///
/// # Errors
/// If the bytes are no such message.
pub(crate) fn matrices(model: &[u8]) -> anyhow::Result<Vec<Matrix<'_>>> {
    let (mut nodes, mut tensors) = (Vec::new(), Vec::new());
    each_field(model, &mut |tag, field| match (tag, field) {
        (7, Field::Bytes(graph)) => each_field(graph, &mut |tag, field| {
            match (tag, field) {
                (1, Field::Bytes(node)) => nodes.push(Node::decode(node)?),
                (5, Field::Bytes(tensor)) => tensors.extend(matrix(tensor)?),
                _ => {}
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    let factors = factors(&nodes);
    tensors.retain(|tensor| factors.get(tensor.name.as_str()) == Some(&true));
    Ok(tensors)
}

/// Every value that nodes take, and whether all of them multiply with it.
fn factors(nodes: &[Node]) -> BTreeMap<&str, bool> {
    /// `AttributeType`s of graphs within a graph, which may take any value of the one around them.
    const GRAPHS: [i32; 2] = [5, 10];
    let has_graph = |node: &Node| {
        node.attribute.iter().any(|with| with.kind.is_some_and(|kind| GRAPHS.contains(&kind)))
    };
    let mut factors = BTreeMap::new();
    if nodes.iter().any(has_graph) {
        return factors;
    }
    for node in nodes {
        let multiplies = matches!(node.op_type.as_deref(), Some("MatMul" | "Gemm"));
        for (i, input) in node.input.iter().enumerate() {
            *factors.entry(input.as_str()).or_insert(true) &= multiplies && i == 1;
        }
    }
    factors
}

/// The tensor in these bytes, if it is a matrix of f32 with its values here.
fn matrix(bytes: &[u8]) -> anyhow::Result<Option<Matrix<'_>>> {
    let (mut name, mut dims, mut kind, mut values) = (String::new(), Vec::new(), 0, &[][..]);
    each_field(bytes, &mut |tag, field| {
        match (tag, field) {
            (1, Field::Number(dim)) => dims.push(i64::try_from(dim)?),
            (1, Field::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    dims.push(i64::try_from(prost::encoding::decode_varint(&mut packed)?)?);
                }
            }
            (2, Field::Number(number)) => kind = i32::try_from(number)?,
            (8, Field::Bytes(text)) => name = String::from_utf8(text.to_vec())?,
            (9, Field::Bytes(bytes)) => values = bytes,
            _ => {}
        }
        Ok(())
    })?;
    let [rows, columns] = dims[..] else { return Ok(None) };
    let length = rows.checked_mul(columns).and_then(|count| count.checked_mul(4));
    let fits = kind == FLOAT && length == i64::try_from(values.len()).ok();
    Ok(fits.then_some(Matrix { name, dims: [rows, columns], bytes: values }))
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// Shows every field of a message, with its number.
fn each_field<'a>(
    mut message: &'a [u8],
    see: &mut dyn FnMut(u64, Field<'a>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)?),
            1 => take(&mut message, 8).map(|_| Field::Other)?,
            2 => {
                let length = varint(&mut message)?;
                Field::Bytes(take(&mut message, length)?)
            }
            5 => take(&mut message, 4).map(|_| Field::Other)?,
            _ => return Err(torn()),
        };
        see(key >> 3, field)?;
    }
    Ok(())
}

fn varint(message: &mut &[u8]) -> anyhow::Result<u64> {
    prost::encoding::decode_varint(message).map_err(|_| torn())
}

fn take<'a>(message: &mut &'a [u8], length: u64) -> anyhow::Result<&'a [u8]> {
    let length = usize::try_from(length).map_err(|_| torn())?;
    let (taken, rest) = message.split_at_checked(length).ok_or_else(torn)?;
    *message = rest;
    Ok(taken)
}

fn torn() -> anyhow::Error {
    anyhow::anyhow!("the file is no ONNX graph, or it is torn")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::onnx::graph::proto::Attribute;
    use crate::onnx::testing::{floats, integers, model, node};

    /// `x W + b`, and `x V + V`.
    fn example(with: Vec<Attribute>) -> Vec<u8> {
        let nodes = vec![
            node("MatMul", &["x", "W"], "y", with),
            node("Add", &["y", "b"], "z", Vec::new()),
            node("Gemm", &["z", "V"], "u", Vec::new()),
            node("Add", &["u", "V"], "v", Vec::new()),
            node("MatMul", &["L", "v"], "w", Vec::new()),
        ];
        let constants = vec![
            floats("W", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            floats("b", &[3], &[0.0; 3]),
            floats("V", &[1, 1], &[1.0]),
            floats("L", &[1, 1], &[1.0]),
            integers("W", &[1, 1], &[1]),
        ];
        model(nodes, constants, Vec::new(), Vec::new())
    }

    #[test]
    fn only_what_is_a_second_factor_and_nothing_else_is_found() {
        let bytes = example(Vec::new());
        let found = matrices(&bytes).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].name.as_str(), found[0].dims), ("W", [2, 3]));
        let values: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(found[0].bytes, values);
    }

    #[test]
    fn a_graph_with_graphs_inside_is_left_alone() {
        let branch = Attribute { name: Some("then".into()), kind: Some(5), ..Attribute::default() };
        assert_eq!(matrices(&example(vec![branch])).unwrap(), []);
    }

    proptest! {
        #[test]
        fn torn_files_are_errors_and_nothing_panics(
            end in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let bytes = example(Vec::new());
            let cut = &bytes[..end.index(bytes.len())];
            // The graph is one field near the end, so what is cut off is missed.
            let _either = matrices(cut);
            let _either = matrices(&noise);
        }
    }
}
