package process

// neverRan reports whether a started child has executed no program: then it was killed.
// neverRan must be called before exec.Cmd.Wait. When a start returns, either the child
// has died, or execve(2) has closed a pipe of the child; the kernel clears
// PF_FORKNOEXEC before that (begin_new_exec in fs/exec.c).
func neverRan(pid int) bool {
	st, err := StatOf(pid)
	return err == nil && st.flags&forkNoExec != 0
}

// forkNoExec is the kernel's PF_FORKNOEXEC, which ps(1) documents as "forked but
// didn't exec".
const forkNoExec = 0x40
