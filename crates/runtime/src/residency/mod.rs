//! Which weights are in memory: locked there, or streamed through a part of it.

mod lock;
mod plan;
mod room;
mod streamer;

pub use lock::lock_weights;
pub use room::Room;
pub use streamer::Streamer;
