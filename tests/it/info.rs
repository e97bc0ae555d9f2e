//! `ctr version`, `ctr info`, help, and what stands before a command.

use crate::support::both;

both!(version_says_which, |cx| {
    let out = cx.ctr("version").succeeds();
    assert!(out.contains(env!("CARGO_PKG_VERSION")), "{out}");
    let out = cx.ctr("--version").succeeds();
    assert!(out.contains(env!("CARGO_PKG_VERSION")), "{out}");
    cx.ctr("version --format '{{.Client.Version}}'").prints(concat!(env!("CARGO_PKG_VERSION"), "\n"));
});

both!(version_has_all_that_docker_s_has, |cx| {
    for field in
        "Platform Version APIVersion ApiVersion DefaultAPIVersion GitCommit GoVersion Os Arch BuildTime Context"
            .split(' ')
    {
        cx.ctr(&format!("version -f '{{{{.Client.{field}}}}}'")).succeeds();
    }
    for field in "Platform.Name Components Version APIVersion ApiVersion MinAPIVersion GitCommit GoVersion Os Arch \
                  KernelVersion Experimental BuildTime"
        .split_whitespace()
    {
        cx.ctr(&format!("version -f '{{{{.Server.{field}}}}}'")).succeeds();
    }
    cx.ctr("version -f '{{.Server.APIVersion}} {{.Client.APIVersion}} {{.Server.Experimental}} {{.ServerOK}}'")
        .prints("1.48 1.48 false true\n");
    cx.ctr("version -f '{{.Server.Nonsense}}'").fails_after_a_line("template parsing error");
    cx.ctr("version -f '{{.Server.Swarm}}'").fails_after_a_line("template parsing error");
});

both!(info_has_all_that_docker_s_has, |cx| {
    for field in "ID Containers SystemStatus Plugins.Volume KernelMemory KernelMemoryTCP CPUCfsPeriod CpuCfsPeriod \
                  CPUCfsQuota OomKillDisable HTTPProxy HttpProxy HTTPSProxy NoProxy DefaultAddressPools FirewallBackend \
                  DiscoveredDevices ProductLicense Containerd UserName ServerErrors ClientErrors Swarm.Nodes \
                  Swarm.Managers Swarm.Cluster Swarm.Warnings Swarm.LocalNodeState ClientInfo.Platform \
                  ClientInfo.APIVersion InitCommit.Expected RuncCommit.ID RegistryConfig.Mirrors Runtimes.ctr \
                  GenericResources CDISpecDirs Isolation Warnings"
        .split_whitespace()
    {
        cx.ctr(&format!("info -f '{{{{.{field}}}}}'")).succeeds_talking();
    }
    cx.ctr("info -f '{{.Swarm.Nodes}} {{len .SystemStatus}} {{.CPUSet}}{{if .Containerd}}!{{end}}'").succeeds_talking();
    cx.ctr("info -f '{{.Nonsense}}'").fails_after_a_line("template parsing error");
});

both!(info_says_where_and_what, |cx| {
    cx.busybox();
    cx.ctr("create busybox true").succeeds();
    let out = cx.ctr("info").succeeds_talking();
    assert!(out.contains(cx.root().to_str().unwrap()), "{out}");
    cx.ctr("info -f '{{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.Images}}'").prints("1 0 1 1\n");
    let json = cx.ctr("info -f '{{json .}}'").succeeds_talking();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["OSType"], "linux", "{json}");
    if value["CgroupVersion"] == "1" {
        let driver = if cx.is_root() { "cgroupfs" } else { "none" };
        assert_eq!(value["CgroupDriver"], driver, "cgroup v1 gives an ordinary user none: {json}");
    }
});
