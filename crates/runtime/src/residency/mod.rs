//! Which weights are in memory: locked there, streamed through a part of it, or entered as they are needed.

mod lock;
mod mapper;
mod plan;
mod room;
mod streamer;

pub use lock::lock_weights;
pub use mapper::Mapper;
pub use room::Room;
pub use streamer::Streamer;
