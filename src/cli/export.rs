//! `roadcrew export`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::failure::Failure;
use super::session::{Session, Usually};
use crate::app::Exit;
use crate::lab::export::{ExportSpec, Port, Summary, export};
use crate::onnx::graph;

/// Write a model as one ONNX file, for other runtimes
///
/// Input: pixel_values [batch, 3, height, width], prepared as the file's own metadata says. Outputs:
/// logits [batch] and probability [batch]. All f32, also with --dtype f16, which is what is computed
/// in between. Needs the memory of the largest tensor, not of the model, which only --check loads.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Export {
    /// File to write
    #[arg(long, value_name = "FILE")]
    onnx: PathBuf,
    /// Model to export: embedded:NAME, or a folder in the Hugging Face layout with a head
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Write the encoder alone: last_hidden_state [batch, tokens, hidden], pooler_output [batch, hidden]
    #[arg(long)]
    encoder: bool,
    /// What the encoder's weights are kept and computed in
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
    /// Let probability be the logit's sigmoid, whatever the model's calibration.json says
    #[arg(long)]
    without_calibration: bool,
    /// Also write five prepared scenes with our logits and probabilities (safetensors), to compare
    /// another runtime with
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dtype {
    F32,
    F16,
}

impl Export {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        session.app(Usually::Quiet)?.prepare_process();
        let json = self.json;
        let next = "correct what is named above, or choose another file or model";
        let summary = export(&self.spec()).map_err(|error| Failure::new(error, next))?;
        if json {
            serde_json::to_writer(&mut *session.out, &summary)?;
            writeln!(session.out)?;
        } else {
            session.out.write_all(table(&summary).as_bytes())?;
        }
        Ok(Exit::Ok)
    }

    fn spec(self) -> ExportSpec {
        let Self { onnx, model, encoder, without_calibration, check, force, .. } = self;
        let dtype = match self.dtype {
            Dtype::F32 => graph::Dtype::F32,
            Dtype::F16 => graph::Dtype::F16,
        };
        ExportSpec {
            model,
            onnx,
            encoder_only: encoder,
            dtype,
            with_calibration: !without_calibration,
            check,
            force,
        }
    }
}

/// What was written, for people.
fn table(summary: &Summary) -> String {
    let Summary { onnx, bytes, sha256, opset, ir_version, nodes, initializers, .. } = summary;
    let mut lines = vec![
        format!("file        {}", onnx.display()),
        format!("bytes       {bytes}"),
        format!("sha256      {sha256}"),
        format!("opset       {opset} (IR version {ir_version})"),
        format!("graph       {nodes} nodes, {initializers} initializers"),
    ];
    let port = |role: &str, port: &Port| {
        format!("{role:<11} {} [{}] f32", port.name, port.shape.join(", "))
    };
    lines.extend(summary.inputs.iter().map(|it| port("input", it)));
    lines.extend(summary.outputs.iter().map(|it| port("output", it)));
    lines.extend(summary.metadata.iter().map(|(key, value)| format!("metadata    {key}: {value}")));
    lines.extend(summary.check.iter().map(|path| format!("check       {}", path.display())));
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;
    use crate::app::Exit;

    #[test]
    fn prints_what_it_wrote_and_does_not_write_twice() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.onnx").display().to_string();
        let args = ["export", "--model", "embedded:confirm", "--onnx", &file];
        let (exit, out) = run(&args);
        assert_eq!(exit, Exit::Ok);
        for part in ["input       pixel_values [batch, 3, 128, 224] f32", "opset       17"] {
            assert!(out.contains(part), "{out}");
        }
        assert_eq!(run(&args), (Exit::Failure, String::new()));
        let (exit, out) = run(&[&args[..], &["--force", "--json"]].concat());
        assert_eq!(exit, Exit::Ok);
        let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(summary["outputs"][1]["name"], "probability");
        assert_eq!(summary["metadata"]["model_type"], "dinov3_convnext");
        assert_eq!(summary["metadata"]["calibration"], r#"{"scale":1.32,"shift":0.0}"#);
        let (_, out) = run(&[&args[..], &["--force", "--json", "--without-calibration"]].concat());
        let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(summary["metadata"]["calibration"], "none");
        assert_eq!(summary["bytes"], fs_err::metadata(&file).unwrap().len());
    }

    #[test]
    fn an_encoder_alone_has_features_and_no_answers() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("encoder.onnx").display().to_string();
        let args = ["export", "--encoder", "--model", "embedded:screen", "--onnx", &file];
        let (exit, out) = run(&args);
        assert_eq!(exit, Exit::Ok);
        for part in [
            "output      last_hidden_state [batch, tokens, ",
            "output      pooler_output [batch, ",
            "metadata    prefix_tokens: 1",
        ] {
            assert!(out.contains(part), "{out}");
        }
        let check = dir.path().join("check").display().to_string();
        let both = [&args[..], &["--force", "--check", &check]].concat();
        assert_eq!(run(&both), (Exit::Failure, String::new()));
    }

    #[test]
    fn a_model_that_is_not_there_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.onnx").display().to_string();
        let args = ["export", "--model", "embedded:scream", "--onnx", &file];
        assert_eq!(run(&args), (Exit::Failure, String::new()));
    }
}
