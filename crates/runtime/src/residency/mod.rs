//! Which weights are in memory: locked there, or streamed through a part of it.

mod limit;
mod lock;
mod plan;
mod room;
mod streamer;

pub use limit::memory_available;
pub use lock::lock_weights;
pub use room::room_for_weights;
pub use streamer::Streamer;
