use candle_core::DType;
use candle_nn::VarMap;
use serde_json::json;

use super::*;
use crate::models::{Head, Pooling};

fn config(value: serde_json::Value) -> EncoderConfig {
    EncoderConfig::from_json(value).unwrap()
}

fn vit(gated: bool) -> EncoderConfig {
    config(json!({
        "model_type": "dinov3_vit", "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": [8, 4],
        "num_register_tokens": 2, "use_gated_mlp": gated,
        "hidden_act": if gated { "silu" } else { "gelu" },
    }))
}

fn convnext() -> EncoderConfig {
    config(json!({
        "model_type": "dinov3_convnext", "hidden_sizes": [8, 20], "depths": [1, 2],
        "layer_scale_init_value": 0.5,
    }))
}

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0.0f32, 1.0, shape, &Device::Cpu).unwrap()
}

/// A network to train, whose layer scales and biases are not at their dull starting values.
fn trainable(config: &EncoderConfig) -> (VarMap, Encoder, Head) {
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let encoder = Encoder::new(config, vb.pp("encoder")).unwrap();
    let head = Head::new(Pooling::ClsMeanMax, encoder.hidden_size(), 5, vb.pp("head")).unwrap();
    for variable in variables.all_vars() {
        let noise = (random(variable.dims()) * 0.2).unwrap();
        variable.set(&(variable.as_tensor() + noise).unwrap()).unwrap();
    }
    (variables, encoder, head)
}

#[test]
fn every_parameter_learns() {
    for config in [vit(false), vit(true), convnext()] {
        let (variables, encoder, head) = trainable(&config);
        let features = encoder.forward(&random(&[2, 3, 26, 25])).unwrap();
        let loss = head.forward(&features).unwrap().sqr().unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        let data = variables.data().lock().unwrap();
        assert!(data.len() > 20);
        for (name, variable) in data.iter() {
            let gradient = gradients.get(variable).unwrap_or_else(|| panic!("none for {name}"));
            let size = gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(size > 1e-7 && size.is_finite(), "{name}: {size}");
        }
    }
}

/// The network to train and the one that serves are one function of the weights; a variable that
/// changes is seen at once.
#[test]
fn fused_and_differentiable_steps_agree() {
    for config in [vit(false), vit(true), convnext()] {
        let (variables, encoder, head) = trainable(&config);
        let pixels = random(&[3, 3, 33, 40]);
        for _ in 0..2 {
            let data = variables.data().lock().unwrap();
            let tensors =
                data.iter().map(|(name, v)| (name.clone(), v.as_tensor().copy().unwrap().detach()));
            let vb = VarBuilder::from_tensors(tensors.collect(), DType::F32, &Device::Cpu);
            let serving = Encoder::new(&config, vb.pp("encoder")).unwrap();
            let serving_head =
                Head::new(head.pooling(), encoder.hidden_size(), 5, vb.pp("head")).unwrap();
            let (a, b) = (encoder.forward(&pixels).unwrap(), serving.forward(&pixels).unwrap());
            assert!(a.cls.track_op() && !b.cls.track_op());
            let logits = (head.forward(&a).unwrap(), serving_head.forward(&b).unwrap());
            for (a, b) in [(a.cls, b.cls), (a.patches, b.patches), (logits.0, logits.1)] {
                assert_eq!(a.dims(), b.dims());
                let distance = (a - b).unwrap().abs().unwrap().max_all().unwrap();
                assert!(distance.to_scalar::<f32>().unwrap() < 2e-5, "{distance}");
            }
            for variable in data.values() {
                variable.set(&(variable.as_tensor() * 1.1).unwrap()).unwrap();
            }
        }
    }
}

#[test]
fn both_ways_of_naming_are_read() {
    for (config, from, to) in
        [(vit(true), "layer.", "model.layer."), (convnext(), "model.stages.", "stages.")]
    {
        let (variables, ..) = trainable(&config);
        let tensors: Vec<(String, Tensor)> = {
            let data = variables.data().lock().unwrap();
            let own = |(name, v): (&String, &candle_core::Var)| {
                let name = name.strip_prefix("encoder.")?.to_owned();
                Some((name, v.as_tensor().copy().unwrap().detach()))
            };
            data.iter().filter_map(own).collect()
        };
        let pixels = random(&[1, 3, 32, 32]);
        let mut results = Vec::new();
        for prefix in ["", "model."] {
            for renamed in [false, true] {
                let rename = |name: &String| match name.strip_prefix(from) {
                    Some(rest) if renamed => format!("{prefix}{to}{rest}"),
                    _ => format!("{prefix}{name}"),
                };
                let tensors = tensors.iter().map(|(name, t)| (rename(name), t.clone())).collect();
                let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
                let encoder = Encoder::new(&config, vb).unwrap();
                let cls = encoder.forward(&pixels).unwrap().cls;
                results.push(cls.to_vec2::<f32>().unwrap());
            }
        }
        assert!(results.iter().all(|result| *result == results[0]));
    }
}

#[test]
fn configurations_that_cannot_work_are_named() {
    for (value, part) in [
        (json!({}), "model_type (missing) is not an encoder we have; supported are `dinov3_vit`"),
        (json!({"model_type": "vit"}), "`vit` is not an encoder"),
        (json!({"model_type": "dinov3_vit", "hidden_size": "a"}), "invalid type"),
    ] {
        let error = EncoderConfig::from_json(value).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
    for (value, part) in [
        (
            json!({"model_type": "dinov3_vit", "hidden_size": 10, "num_attention_heads": 4}),
            "multiple of num_attention_heads 4",
        ),
        (
            json!({"model_type": "dinov3_vit", "hidden_size": 36, "num_attention_heads": 2}),
            "head size 18",
        ),
        (json!({"model_type": "dinov3_vit", "num_attention_heads": 0}), "num_attention_heads 0"),
        (json!({"model_type": "dinov3_vit", "hidden_act": "mish"}), "`mish` is not supported"),
        (json!({"model_type": "dinov3_vit", "num_channels": 1}), "num_channels 1"),
        (json!({"model_type": "dinov3_vit", "patch_size": 0}), "patch_size"),
        (json!({"model_type": "dinov3_convnext", "depths": [1]}), "do not make stages"),
        (json!({"model_type": "dinov3_convnext", "num_channels": 4}), "num_channels 4"),
    ] {
        let error = Encoder::new(&config(value), vb.clone()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let (_, encoder, _) = trainable(&vit(false));
    let error = encoder.forward(&random(&[1, 3, 7, 8])).unwrap_err().to_string();
    assert!(error.contains("height >= 8, width >= 4"), "{error}");
    let (_, encoder, _) = trainable(&convnext());
    let error = encoder.forward(&random(&[1, 3, 16, 7])).unwrap_err().to_string();
    assert!(error.contains("height >= 8, width >= 8"), "{error}");
}

#[test]
fn more_layers_than_the_configuration_says_are_an_error() {
    for (config, fewer) in [
        (
            vit(false),
            json!({"model_type": "dinov3_vit", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}),
        ),
        (
            convnext(),
            json!({"model_type": "dinov3_convnext", "hidden_sizes": [8, 20], "depths": [1, 1]}),
        ),
        (convnext(), json!({"model_type": "dinov3_convnext", "hidden_sizes": [8], "depths": [1]})),
    ] {
        let (variables, ..) = trainable(&config);
        let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        let error = Encoder::new(&EncoderConfig::from_json(fewer).unwrap(), vb.pp("encoder"));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("but the weights have a"), "{error}");
    }
}
