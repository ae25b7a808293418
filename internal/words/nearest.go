package words

import "strings"

// Nearest returns the one of list that was probably meant by s, or "".
func Nearest(s string, list []string) string {
	best, bestDistance := "", max(1, len(s)/3)+1
	for _, w := range list {
		// preempt-delay, preemptDelay and PREEMPT_DELAY are all preempt_delay.
		if fold(s) == fold(w) {
			return w
		}
		if len(s) >= 3 && (strings.HasPrefix(s, w) || strings.HasPrefix(w, s)) && bestDistance > 1 {
			best, bestDistance = w, 1
			continue
		}
		if d := distance(s, w); d < bestDistance {
			best, bestDistance = w, d
		}
	}
	return best
}

func fold(s string) string {
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s))
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that turn a into b.
func distance(a, b string) int {
	if max(len(a), len(b)) > 64 {
		return 64
	}
	var of [65][65]int // of the first i bytes of a and the first j of b
	for i := range len(a) + 1 {
		for j := range len(b) + 1 {
			switch {
			case i == 0 || j == 0:
				of[i][j] = i + j
			case a[i-1] == b[j-1]:
				of[i][j] = of[i-1][j-1]
			default:
				of[i][j] = 1 + min(of[i-1][j-1], of[i-1][j], of[i][j-1])
				if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
					of[i][j] = min(of[i][j], 1+of[i-2][j-2])
				}
			}
		}
	}
	return of[len(a)][len(b)]
}
