package process

// neverRan reports whether a child that has been started is still what it was
// forked from: then it is at its end, and has executed no program. To be called
// before anybody waits for it. By the time that a start returns, the program has
// closed a pipe which the kernel closes after it has said that one is executed
// (begin_new_exec in fs/exec.c), or the child has died.
func neverRan(pid int) bool {
	st, err := StatOf(pid)
	return err == nil && st.flags&forkNoExec != 0
}

// forkNoExec is the kernel's PF_FORKNOEXEC, which ps(1) documents as "forked but
// didn't exec".
const forkNoExec = 0x40
