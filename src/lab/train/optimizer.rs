//! AdamW, with its state within reach so that a checkpoint can hold it, and the schedule.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// A trained tensor with its moments.
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) var: Var,
    pub(super) first: Tensor,
    pub(super) second: Tensor,
    /// The moving average of the values, if one is kept.
    pub(super) average: Option<Tensor>,
}

/// Adam with decoupled weight decay (Loshchilov and Hutter), and on request an exponential moving
/// average of the values.
pub(super) struct AdamW {
    pub(super) slots: Vec<Slot>,
    pub(super) taken: usize,
    weight_decay: f64,
    ema: f64,
}

impl AdamW {
    /// Starts with empty moments. Matrices decay, vectors (biases, norms, scales) do not. `ema` is the
    /// decay of the average; 0 keeps none.
    pub(super) fn new(trained: Vec<(String, Var)>, weight_decay: f64, ema: f64) -> Result<Self> {
        let slot = |(name, var): (String, Var)| {
            let zeros = var.as_tensor().zeros_like()?;
            let average = (ema > 0.0).then(|| var.as_detached_tensor().copy()).transpose()?;
            Ok(Slot { name, var, first: zeros.clone(), second: zeros, average })
        };
        let slots = trained.into_iter().map(slot).collect::<Result<_>>()?;
        Ok(Self { slots, taken: 0, weight_decay, ema })
    }

    /// Steps taken so far.
    pub(super) fn steps(&self) -> usize {
        self.taken
    }

    /// One step along the gradients.
    pub(super) fn step(&mut self, gradients: &GradStore, rate: f64) -> Result<()> {
        self.taken += 1;
        let correct1 = 1.0 - BETA1.powi(self.taken as i32);
        let correct2 = 1.0 - BETA2.powi(self.taken as i32);
        for slot in &mut self.slots {
            let Some(gradient) = gradients.get(&slot.var) else { continue };
            let gradient = gradient.detach();
            slot.first = ((&slot.first * BETA1)? + (&gradient * (1.0 - BETA1))?)?;
            slot.second = ((&slot.second * BETA2)? + (gradient.sqr()? * (1.0 - BETA2))?)?;
            let scale = ((&slot.second / correct2)?.sqrt()? + EPSILON)?;
            let direction = (&slot.first / correct1)?.div(&scale)?;
            let decay = if slot.var.rank() > 1 { self.weight_decay * rate } else { 0.0 };
            let shrunk = (slot.var.as_tensor() * (1.0 - decay))?;
            slot.var.set(&(shrunk - (direction * rate)?)?)?;
        }
        self.average()
    }

    /// Early on, when the values still move fast, the average is short.
    fn average(&mut self) -> Result<()> {
        let steps = self.taken as f64;
        let decay = self.ema.min((1.0 + steps) / (10.0 + steps));
        for slot in &mut self.slots {
            if let Some(average) = &mut slot.average {
                // Detached, or each average would keep all that came before it.
                let value = slot.var.as_detached_tensor();
                *average = ((&*average * decay)? + (value * (1.0 - decay))?)?.detach();
            }
        }
        Ok(())
    }

    /// Does something with the averages in place of the values, if there are any.
    pub(super) fn averaged<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let mut values = Vec::new();
        for slot in &self.slots {
            if let Some(average) = &slot.average {
                values.push((&slot.var, slot.var.as_tensor().copy()?));
                slot.var.set(average)?;
            }
        }
        let done = work();
        values.into_iter().try_for_each(|(var, value)| var.set(&value))?;
        Ok(done)
    }
}

/// The share of the highest learning rate at a step: it rises from zero for a share of the run, the
/// rest falls to zero along a cosine.
pub(super) fn cosine(step: usize, total: usize, warm_up: f64) -> f64 {
    let warm_up = (total as f64 * warm_up) as usize;
    if step < warm_up {
        return (step + 1) as f64 / warm_up as f64;
    }
    let progress = (step - warm_up) as f64 / (total - warm_up).max(1) as f64;
    0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_schedule_rises_and_falls_to_zero() {
        assert!(cosine(0, 1000, 0.05) < 0.03);
        assert_eq!(cosine(50, 1000, 0.05), 1.0);
        assert!(cosine(999, 1000, 0.05) < 1e-4);
        assert!((1..1000).skip(50).all(|s| cosine(s, 1000, 0.05) <= cosine(s - 1, 1000, 0.05)));
    }

    #[test]
    fn it_finds_the_minimum_of_a_parabola() {
        let x = Var::from_slice(&[5.0_f32, -3.0], 2, &Device::Cpu).unwrap();
        let mut optimizer = AdamW::new(vec![("x".into(), x.clone())], 0.0, 0.0).unwrap();
        for _ in 0..400 {
            let loss = x.as_tensor().sqr().unwrap().sum_all().unwrap();
            optimizer.step(&loss.backward().unwrap(), 0.05).unwrap();
        }
        for value in x.to_vec1::<f32>().unwrap() {
            assert!(value.abs() < 0.05, "{value}");
        }
    }
}
