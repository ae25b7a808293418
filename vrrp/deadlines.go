package vrrp

import (
	"container/heap"
	"time"
)

// deadlines is a heap of the routers whose machine has a deadline. Each router
// knows its place in it, one more than its index; 0: not in it.
type deadlines []*Router

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].deadline < d[j].deadline }

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i+1, j+1
}

// Push and Pop are for package heap.
func (d *deadlines) Push(x any) {
	*d = append(*d, x.(*Router))
	x.(*Router).place = len(*d)
}

func (d *deadlines) Pop() any {
	last := len(*d) - 1
	r := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	r.place = 0
	return r
}

// set puts r where its deadline at belongs.
func (d *deadlines) set(r *Router, at time.Duration) {
	switch {
	case r.place == 0:
		r.deadline = at
		heap.Push(d, r)
	case r.deadline != at:
		r.deadline = at
		heap.Fix(d, r.place-1)
	}
}

func (d *deadlines) remove(r *Router) {
	if r.place > 0 {
		heap.Remove(d, r.place-1)
	}
}
