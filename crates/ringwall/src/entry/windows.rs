//! The windows: every run of instructions that executes under the user root, in the order in which
//! the entry text closes them. The user view of the text is made of exactly these.

/// What a window is and what is known inside it.
#[derive(Debug)]
pub struct Window {
    /// Its name.
    pub name: &'static str,
    /// What holds at each of its instructions.
    pub holds: &'static str,
    /// Whether RSP is the program's at some of them, who may have made it anything.
    pub rsp_is_users: bool,
    /// What leaves it, and how.
    pub leaves: &'static str,
    /// Which program of `programs/` goes through it in a scenario. Its bytes are checked on the host by
    /// `crates/ringwall/tests/text.rs`, like all windows'.
    pub exercised_by: &'static str,
}

/// One row for each window of `text.s`.
pub static WINDOWS: [Window; 11] = [
    Window {
        name: "vector stubs",
        holds: "CPU's frame on top of the entry stack, or of the interrupted stack; no register free",
        rsp_is_users: false,
        leaves: "jump to trap_entry",
        exercised_by: "exceptions; windows: every way but `call`",
    },
    Window {
        name: "trap in",
        holds: "frame on the entry stack; RDI free once pushed; GS the user's until SWAPGS",
        rsp_is_users: false,
        leaves: "CR3 write: the next byte is in the kernel view alone",
        exercised_by: "exceptions, registers; windows: `fault`, `gate`, `tick`",
    },
    Window {
        name: "exit by IRETQ, and its fault",
        holds: "return frame at the top of the entry stack, or seen through the espfix stack; GS the kernel's until SWAPGS",
        rsp_is_users: false,
        leaves: "IRETQ to ring 3, or to trap in if IRETQ faulted",
        exercised_by: "badreturn, signals; windows: `back`, `badback`, `short`, `badshort`",
    },
    Window {
        name: "SYSCALL in",
        holds: "RSP the user's, then scratch; RCX and R11 hold the user's RIP and RFLAGS",
        rsp_is_users: true,
        leaves: "CR3 write: the next byte is in the kernel view alone",
        exercised_by: "registers, wildcalls; windows: `call`",
    },
    Window {
        name: "SYSRETQ out, SYSCALL from 32-bit code, SYSENTER",
        holds: "all registers the user's but RSP, which waits in the scratch word",
        rsp_is_users: true,
        leaves: "SYSRET to ring 3, or to trap in",
        exercised_by: "registers, wildcalls; windows: `call`, `enter`",
    },
    Window {
        name: "NMI in",
        holds: "frame on the landing stack; GS and CR3 unknown; RDI and RSI free once pushed",
        rsp_is_users: false,
        leaves: "CR3 write: the next byte is in the kernel view alone",
        exercised_by: "windows: every way, by injection",
    },
    Window {
        name: "#DB in",
        holds: "frame on the landing stack; GS and CR3 unknown; RDI and RSI free once pushed",
        rsp_is_users: false,
        leaves: "CR3 write: the next byte is in the kernel view alone",
        exercised_by: "exceptions; windows: `step`",
    },
    Window {
        name: "#MC in",
        holds: "frame on the landing stack; GS and CR3 unknown; RDI and RSI free once pushed",
        rsp_is_users: false,
        leaves: "CR3 write: the next byte is in the kernel view alone",
        exercised_by: "windows: every way, by injection",
    },
    Window {
        name: "#DF in",
        holds: "frame on the landing stack; GS and CR3 unknown; RDI and RSI free once pushed",
        rsp_is_users: false,
        leaves: "CR3 write: the next byte is in the kernel view alone",
        exercised_by: "the stack-guard scenario; windows: `badshort`",
    },
    Window {
        name: "paranoid out",
        holds: "return frame on the landing stack; GS base as it was found; RDI last to come back",
        rsp_is_users: false,
        leaves: "IRETQ to where the event arrived",
        exercised_by: "windows: every way, by injection",
    },
    Window {
        name: "paranoid out of a paranoid entry or exit",
        holds: "RDI, RFLAGS and RIP below the interrupted RSP, on a landing stack",
        rsp_is_users: false,
        leaves: "RET to the paranoid way in or out",
        exercised_by: "windows: `call`, `short`, by an event inside an event",
    },
];
