//! All frames of a `.zst` file, one after the other, as `zstd -d` reads them.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// The beginning of a skippable frame, without the last four bits.
const REMARKS: u32 = 0x184d_2a50;
/// The memory that `zstd -d` grants a file by default.
const LARGEST_WINDOW: u64 = 1 << 27;

pub(super) struct Frames<R: Read> {
    state: State<R>,
}

/// The input, with the magic number of the frame put back in front.
type Frame<R> = io::Chain<io::Cursor<[u8; 4]>, R>;

enum State<R: Read> {
    Between(R),
    Inside(Box<StreamingDecoder<Frame<R>, FrameDecoder>>),
    Ended,
}

impl<R: BufRead> Frames<R> {
    /// Fails if it is not such a file.
    pub(super) fn new(input: R) -> io::Result<Self> {
        let mut frames = Self { state: State::Between(input) };
        frames.open()?;
        if matches!(frames.state, State::Ended) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty, and so no zstd file"));
        }
        Ok(frames)
    }

    /// The next frame with data, if there is one.
    fn open(&mut self) -> io::Result<()> {
        let State::Between(mut input) = std::mem::replace(&mut self.state, State::Ended) else { return Ok(()) };
        while !input.fill_buf()?.is_empty() {
            let mut magic = [0; 4];
            input.read_exact(&mut magic)?;
            if u32::from_le_bytes(magic) & 0xffff_fff0 == REMARKS {
                let mut length = [0; 4];
                input.read_exact(&mut length)?;
                let length = u64::from(u32::from_le_bytes(length));
                if io::copy(&mut input.by_ref().take(length), &mut io::sink())? < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            let source = io::Cursor::new(magic).chain(input);
            let decoder = StreamingDecoder::new_with_max_window_size(source, LARGEST_WINDOW).map_err(io::Error::other)?;
            self.state = State::Inside(Box::new(decoder));
            return Ok(());
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let State::Inside(decoder) = &mut self.state {
            match decoder.read(buffer)? {
                0 => {}
                count => return Ok(count),
            }
            let State::Inside(decoder) = std::mem::replace(&mut self.state, State::Ended) else { break };
            let (source, decoder) = decoder.into_parts();
            if let (Some(written), Some(found)) = (decoder.get_checksum_from_data(), decoder.get_calculated_checksum())
                && written != found
            {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its content is not what its checksum says"));
            }
            self.state = State::Between(source.into_inner().1);
            self.open()?;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of one raw block, as the format describes it.
    fn frame(text: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, text.len() as u8];
        frame.extend_from_slice(&(1 | (text.len() as u32) << 3).to_le_bytes()[..3]);
        frame.extend_from_slice(text);
        frame
    }

    fn read(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        Frames::new(bytes)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn every_frame_is_read_and_remarks_are_passed_over() {
        let remarks = [&0x184d_2a57u32.to_le_bytes()[..], &3u32.to_le_bytes()[..], b"abc"].concat();
        let (one, two) = (frame(b"one "), frame(b"two"));
        assert_eq!(read(&one).unwrap(), "one ");
        assert_eq!(read(&[one.clone(), two.clone()].concat()).unwrap(), "one two");
        assert_eq!(read(&[remarks.clone(), one.clone(), remarks.clone(), two.clone(), remarks.clone()].concat()).unwrap(), "one two");
        assert_eq!(read(&[frame(b""), two.clone(), frame(b"")].concat()).unwrap(), "two");
        let whole = [one, two, remarks].concat();
        for cut in 1..whole.len() {
            // A file may end where a frame ends.
            let (text, at_end) = (read(&whole[..cut]), [13, 25].contains(&cut));
            assert_eq!(text.is_ok(), at_end, "{cut}: {text:?}");
        }
        assert!(read(b"").is_err() && read(b"no zstd at all").is_err());
        assert!(read(&[frame(b"one"), b"rubbish".to_vec()].concat()).is_err());
    }
}
