//! What a graph takes and gives, and whether that is what the settings say.

use std::fmt;

use ort::value::{Outlet, ValueType};
use serde::{Deserialize, Serialize};

/// One input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The type of its values as ONNX Runtime calls it, such as `f32`; of what is no tensor, all of
    /// its type.
    pub element: String,
    /// Its dimensions, for a tensor.
    pub dims: Option<Vec<Dim>>,
}

/// One dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// So long.
    Fixed(usize),
    /// As long as the caller likes; the name that the graph gives it, perhaps empty.
    Free(String),
}

impl Dim {
    /// Its length, if that is fixed.
    pub fn length(&self) -> Option<usize> {
        match self {
            Self::Fixed(length) => Some(*length),
            Self::Free(_) => None,
        }
    }

    fn can_be(&self, length: usize) -> bool {
        self.length().is_none_or(|own| own == length)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(length) => length.fmt(f),
            Self::Free(name) if name.is_empty() => f.write_str("?"),
            Self::Free(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.name, self.element)?;
        let Some(dims) = &self.dims else { return Ok(()) };
        let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
        write!(f, " [{}]", dims.join(", "))
    }
}

/// All that a graph takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// What it takes.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
}

/// The order of the axes of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[batch, 3, height, width]`.
    Nchw,
    /// `[batch, height, width, 3]`.
    Nhwc,
}

/// The input that takes pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pictures {
    /// Its name.
    pub name: String,
    /// The order of its axes.
    pub layout: Layout,
    /// Height and width in pixels.
    pub size: (usize, usize),
    /// How many pictures it takes at a time, if that is fixed.
    pub batch: Option<usize>,
}

impl Pictures {
    /// The dimensions of a batch.
    pub fn dims(&self, batch: usize) -> [usize; 4] {
        let (height, width) = self.size;
        match self.layout {
            Layout::Nchw => [batch, 3, height, width],
            Layout::Nhwc => [batch, height, width, 3],
        }
    }
}

/// What the settings say of the input; empty or absent is for the graph to say.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// The order of its axes.
    pub layout: Layout,
    /// Height and width in pixels.
    pub size: Option<(usize, usize)>,
}

impl Ports {
    pub(super) fn of(inputs: &[Outlet], outputs: &[Outlet]) -> Self {
        let ports = |outlets: &[Outlet]| outlets.iter().map(port).collect();
        Self { inputs: ports(inputs), outputs: ports(outputs) }
    }

    /// The input that takes pictures, if the graph is as the settings say.
    ///
    /// # Errors
    /// In what it differs, and what the graph has.
    pub fn pictures(&self, wanted: Wanted<'_>) -> anyhow::Result<Pictures> {
        let port = self.input(wanted.name)?;
        let dims = floats(port, "input")?;
        let Wanted { layout, .. } = wanted;
        let [batch, sides @ ..] = dims else {
            anyhow::bail!("the input {port} has no dimensions; pictures have four");
        };
        let (channels, height, width) = match (sides, layout) {
            ([c, h, w], Layout::Nchw) | ([h, w, c], Layout::Nhwc) => (c, h, w),
            _ => anyhow::bail!("the input {port} has {} dimensions; pictures have 4", dims.len()),
        };
        anyhow::ensure!(
            channels.can_be(3),
            "the input {port} has {channels} where layout = \"{}\" has its 3 channels; set layout to \
             \"{}\" if they stand elsewhere",
            if layout == Layout::Nchw { "nchw" } else { "nhwc" },
            if layout == Layout::Nchw { "nhwc" } else { "nchw" },
        );
        let size = match (wanted.size, height.length(), width.length()) {
            (Some(size), ..) => size,
            (None, Some(height), Some(width)) => (height, width),
            _ => anyhow::bail!(
                "the graph leaves the size of pictures open ({port}); set size = [height, width]"
            ),
        };
        anyhow::ensure!(
            height.can_be(size.0) && width.can_be(size.1),
            "size is [{}, {}], and the graph wants {height} by {width} pixels ({port})",
            size.0,
            size.1
        );
        let batch = batch.length();
        anyhow::ensure!(
            batch.is_none_or(|batch| batch == 1),
            "the graph takes {} pictures at a time and no other number ({port}); export it with a free \
             first dimension",
            batch.unwrap_or_default()
        );
        Ok(Pictures { name: port.name.clone(), layout, size, batch })
    }

    fn input(&self, name: &str) -> anyhow::Result<&Port> {
        match &self.inputs[..] {
            [only] if name.is_empty() => Ok(only),
            inputs if name.is_empty() => {
                anyhow::bail!("set input: the graph has {}", listed("input", inputs))
            }
            inputs => {
                let port = named(inputs, name, "input")?;
                anyhow::ensure!(
                    inputs.len() == 1,
                    "the graph has {}; only graphs with one input can be run",
                    listed("input", inputs)
                );
                Ok(port)
            }
        }
    }

    /// The output of that name; if it is empty, the first of `known` that is there, or the only one.
    ///
    /// # Errors
    /// If there is none, with what the graph has.
    pub fn output(&self, name: &str, known: &[&str]) -> anyhow::Result<&Port> {
        if !name.is_empty() {
            return named(&self.outputs, name, "output");
        }
        let of_name = |name: &&str| self.outputs.iter().find(|port| port.name == *name);
        match (known.iter().find_map(of_name), &self.outputs[..]) {
            (Some(port), _) | (None, [port]) => Ok(port),
            (None, outputs) => {
                anyhow::bail!("set output: the graph has {}", listed("output", outputs))
            }
        }
    }
}

/// The dimensions of a tensor of `f32`.
///
/// # Errors
/// If it is of another type; `role` is input or output.
pub fn floats<'a>(port: &'a Port, role: &str) -> anyhow::Result<&'a [Dim]> {
    match &port.dims {
        Some(dims) if port.element == "f32" => Ok(dims),
        _ => anyhow::bail!(
            "the {role} {port} is no tensor of f32; export the graph with f32 inputs and outputs, the \
             weights may be of another type"
        ),
    }
}

fn named<'a>(ports: &'a [Port], name: &str, role: &str) -> anyhow::Result<&'a Port> {
    let port = ports.iter().find(|port| port.name == name);
    port.ok_or_else(|| {
        anyhow::anyhow!("the graph has no {role} `{name}`; it has {}", listed(role, ports))
    })
}

fn listed(role: &str, ports: &[Port]) -> String {
    let plural = if ports.len() == 1 { "" } else { "s" };
    let ports: Vec<String> = ports.iter().map(Port::to_string).collect();
    if ports.is_empty() {
        format!("no {role}s")
    } else {
        format!("the {role}{plural} {}", ports.join(", "))
    }
}

fn port(outlet: &Outlet) -> Port {
    let name = outlet.name().to_owned();
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Port { name, element: outlet.dtype().to_string(), dims: None };
    };
    let dims = shape.iter().enumerate().map(|(i, length)| match usize::try_from(*length) {
        Ok(length) => Dim::Fixed(length),
        Err(_) => Dim::Free(dimension_symbols[i].clone()),
    });
    Port { name, element: ty.to_string(), dims: Some(dims.collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name type a,b,c`, a number or a name each.
    fn port(text: &str) -> Port {
        let mut words = text.split(' ');
        let (name, element) = (words.next().unwrap(), words.next().unwrap());
        let dim = |word: &str| {
            word.parse().map_or_else(|_| Dim::Free(word.trim_matches('?').into()), Dim::Fixed)
        };
        let dims = words.next().map(|dims| dims.split(',').map(dim).collect());
        Port { name: name.into(), element: element.into(), dims }
    }

    fn ports(inputs: &[&str], outputs: &[&str]) -> Ports {
        let ports = |texts: &[&str]| texts.iter().map(|text| port(text)).collect();
        Ports { inputs: ports(inputs), outputs: ports(outputs) }
    }

    const ANY: Wanted<'_> = Wanted { name: "", layout: Layout::Nchw, size: None };

    fn pictures(input: &str, wanted: Wanted<'_>) -> Result<Pictures, String> {
        ports(&[input], &[]).pictures(wanted).map_err(|error| error.to_string())
    }

    #[test]
    fn the_graph_says_what_the_settings_do_not() {
        let found = pictures("x f32 batch,3,224,192", ANY).unwrap();
        assert_eq!((found.name.as_str(), found.size, found.batch), ("x", (224, 192), None));
        assert_eq!(found.dims(5), [5, 3, 224, 192]);
        let last = Wanted { layout: Layout::Nhwc, ..ANY };
        let found = pictures("x f32 1,224,192,3", last).unwrap();
        assert_eq!(
            (found.size, found.batch, found.dims(2)),
            ((224, 192), Some(1), [2, 224, 192, 3])
        );
        let sized = Wanted { size: Some((32, 48)), ..ANY };
        assert_eq!(pictures("x f32 n,c,h,w", sized).unwrap().size, (32, 48));
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_the_graph_has() {
        let sized = Wanted { size: Some((32, 48)), ..ANY };
        let last = Wanted { layout: Layout::Nhwc, ..ANY };
        for (input, wanted, part) in [
            ("x f32 n,3,h,?", ANY, "size of pictures open (`x` f32 [n, 3, h, ?]); set size"),
            ("x f32 n,3,32,32", sized, "size is [32, 48], and the graph wants 32 by 32"),
            ("x f32 n,224,224,3", ANY, "has 224 where layout = \"nchw\""),
            ("x f32 n,3,224,224", last, "has 224 where layout = \"nhwc\""),
            ("x f32 n,3,224", ANY, "has 3 dimensions"),
            ("x u8 n,3,224,224", ANY, "is no tensor of f32"),
            ("x Sequence<f32>", ANY, "is no tensor of f32"),
            ("x f32 8,3,224,224", ANY, "takes 8 pictures at a time"),
            (
                "x f32 n,3,4,4",
                Wanted { name: "y", ..ANY },
                "no input `y`; it has the input `x` f32",
            ),
        ] {
            let error = pictures(input, wanted).unwrap_err();
            assert!(error.contains(part), "{input}: {error}");
        }
    }

    #[test]
    fn one_input_and_no_more() {
        let two = ports(&["x f32 n,3,8,8", "mask i64 n"], &[]);
        let error = two.pictures(ANY).unwrap_err().to_string();
        assert!(error.contains("set input: the graph has the inputs `x`"), "{error}");
        let error = two.pictures(Wanted { name: "x", ..ANY }).unwrap_err().to_string();
        assert!(error.contains("`mask` i64 [n]; only graphs with one input"), "{error}");
        let error = ports(&[], &[]).pictures(ANY).unwrap_err().to_string();
        assert!(error.contains("the graph has no inputs"), "{error}");
    }

    #[test]
    fn an_output_is_named_known_or_the_only_one() {
        let ports = ports(&[], &["logits f32 n", "probability f32 n"]);
        let name = |name, known: &[&str]| ports.output(name, known).map(|port| port.name.clone());
        assert_eq!(name("probability", &["logits"]).unwrap(), "probability");
        assert_eq!(name("", &["score", "logits"]).unwrap(), "logits");
        let error = name("", &[]).unwrap_err().to_string();
        assert!(error.contains("the outputs `logits` f32 [n], `probability` f32 [n]"), "{error}");
        assert!(name("x", &[]).unwrap_err().to_string().contains("no output `x`"));
        let only = super::tests::ports(&[], &["y f32 n"]);
        assert_eq!(only.output("", &["logits"]).unwrap().name, "y");
    }
}
