package admin

import (
	"runtime"

	"github.com/havip/havip/internal/report"
)

var nodeFamilies = []family[*report.Node]{
	{"havip_config_last_reload_successful", "Whether the latest attempt to load the configuration changed everything that it should have.",
		func(n *report.Node) float64 { return boolean(n.ReloadError == "") }},
	{"havip_config_last_reload_success_timestamp_seconds", "When the configuration in force came into force.",
		func(n *report.Node) float64 { return timestamp(n.Loaded) }},
	{"havip_config_warnings", "How many warnings there are about the configuration in force.",
		func(n *report.Node) float64 { return float64(len(n.Warnings)) }},
	{"havip_config_runtime_changes", "How many values a command has put in the place of the file's.",
		func(n *report.Node) float64 { return float64(len(n.Changes)) }},
	{"havip_maintenance", "Whether the node is in maintenance, which keeps every router out of the election.",
		func(n *report.Node) float64 { return boolean(n.Maintenance != nil) }},
	{"havip_maintenance_start_timestamp_seconds", "Since when the node is in maintenance, if it is.",
		func(n *report.Node) float64 {
			if n.Maintenance == nil {
				return none
			}
			return timestamp(n.Maintenance.Since)
		}},
}

var buildFamilies = []family[struct{}]{
	{"havip_build_info", "Always 1, with the version of havip and that of Go with which it was built.", func(struct{}) float64 { return 1 }},
}

var eventFamilies = []family[uint64]{
	{"havip_events_total", "How many events there were, by kind: those of havip events, the forgotten ones included.", asFloat},
}

func asFloat(n uint64) float64 { return float64(n) }

// eventKinds are the kinds that are always exposed: who looks for an increase needs to see
// the zero before it.
var eventKinds = []string{
	report.KindAddresses, report.KindAlarm, report.KindBackend, report.KindCertificate, report.KindCheck, report.KindConflict,
	report.KindControl, report.KindDaemon, report.KindDiscard, report.KindFault, report.KindOther, report.KindPool,
	report.KindReload, report.KindService, report.KindSplit, report.KindTransition,
}

// addNode exposes what concerns the whole process.
func (s *sheet) addNode(n *report.Node, events map[string]uint64) {
	add(s, nodeFamilies, []labelled[*report.Node]{{n, nil}})
	add(s, buildFamilies, []labelled[struct{}]{{labels: s.label("goversion", runtime.Version(), "version", n.Version)}})
	var kinds []labelled[uint64]
	for _, kind := range eventKinds {
		kinds = append(kinds, labelled[uint64]{events[kind], s.label("kind", kind)})
	}
	add(s, eventFamilies, kinds)
}
