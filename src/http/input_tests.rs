//! Tests of the three kinds of bodies.
