#!/usr/bin/env python3
"""Records what Docker's own client says: templates.json, schema.json, usage.json.

    tests/golden/record.py          needs `docker` (the client alone; this plays the daemon)

Each case is a template and the object it is applied to, as Docker's daemon would give it. Recorded
are standard output, standard error and the exit code of `docker inspect -f TEMPLATE box` (object),
or of `docker ps -a --format TEMPLATE` (rows).

The schema is what `{{json .}}` makes of objects that have nothing in them: all members of Docker's
types, in their order. The usage is what wrong command lines get.
"""
import json, os, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
BOX = json.load(open(os.path.join(HERE, "container.json")))
ROWS = json.load(open(os.path.join(HERE, "containers.json")))

OBJECT = r'''
{{.Id}}
{{.ID}}
{{.Name}} {{.Path}} {{.Args}}
{{.State.ExitCode}}
{{.State.StartedAt}}|{{.State.FinishedAt}}
{{.State.Running}}{{.State.Health}}
{{.HostConfig.Memory}}
{{.HostConfig.NanoCpus}} {{.HostConfig.NanoCPUs}} {{.HostConfig.CPUShares}} {{.HostConfig.CpuShares}}
{{range .Mounts}}{{.Source}}{{end}}
{{range .Mounts}}{{.Type}}:{{.Source}}->{{.Destination}}:{{.RW}};{{else}}none{{end}}
{{json .Config.Env}}
{{json .Config.Labels}}
{{json .State}}
{{json .Mounts}}
{{json .HostConfig.Binds}} {{json .HostConfig.CapAdd}}
{{.Config.Env}}
{{.Config.Cmd}} {{.Config.Entrypoint}}
{{.Config.Labels}}
{{.Config.Labels.a}}
{{.Config.Labels.none}}
{{index .Config.Labels "com.example.name"}}
{{index .Config.Labels "none"}}|
{{index .Config.Env 0}}
{{index .Config.Env 99}}
{{index .Args 0}} {{index .Args 1}}
{{index .NetworkSettings.Ports "80/tcp"}}
{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}
{{(index (index .NetworkSettings.Ports "81/tcp") 0).HostPort}}
{{range $p, $c := .NetworkSettings.Ports}}{{$p}} -> {{(index $c 0).HostPort}} {{end}}
{{range $p, $c := .NetworkSettings.Ports}}{{if $c}}{{$p}} -> {{(index $c 0).HostPort}};{{end}}{{end}}
{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}
{{range $name, $n := .NetworkSettings.Networks}}{{$name}}={{$n.IPAddress}}/{{$n.IPPrefixLen}} {{end}}
{{.NetworkSettings.Networks.bridge.IPAddress}}
{{.NetworkSettings.Networks.nosuch}}
{{.NetworkSettings.Networks.nosuch.IPAddress}}
{{(index .NetworkSettings.Networks "nosuch").IPAddress}}
{{with .State.Health}}{{.Status}}{{else}}none{{end}}
{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}
{{.State.Health.Status}}
{{with .Config}}{{.Image}} {{$.Name}}{{end}}
{{with $x := .Name}}{{$x}}{{end}}
{{with .HostConfig.Binds}}a{{else with .Args}}b{{end}}
{{if eq .State.ExitCode 0}}ok{{else}}bad{{end}}
{{if eq .State.Status "running" "exited"}}yes{{end}}
{{if and .State.Running (eq .Name "/box")}}a{{else if .State.Paused}}b{{else}}c{{end}}
{{if or .State.Running .State.Paused .Name}}x{{end}}
{{or .State.Error "none"}} {{and .Name 0}}
{{not .State.Running}} {{not 0}} {{not ""}}
{{eq 1 1}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt "b" "a"}} {{ge 1.5 1.5}}
{{eq 1 1.0}}
{{eq "1" 1}}
{{eq .Config.Env .Config.Env}}
{{eq .Config.Labels .Config.Labels}}
{{lt true false}}
{{lt 1 "a"}}
{{eq 1}}
{{eq .State.Health nil}}
{{len .Config.Env}} {{len .Name}} {{len .Config.Labels}} {{len .HostConfig.Binds}}
{{len 3}}
{{len .State.Health}}
{{slice .Id 0 12}} {{slice .Id 4}} {{slice .Id}}
{{slice .Args 1}} {{slice .Args 0 1}}
{{slice .Id 5 3}}
{{slice .Id 0 99999}}
{{slice .Config.Labels 1}}
{{split .Name "o"}} {{index (split .Path "/") 1}} {{len (split "a,b,c" ",")}}
{{split "abc" ""}}
{{join .Config.Env ","}}
{{join .Args " "}} {{join (split "a/b" "/") "-"}}
{{join .HostConfig.CapDrop ","}}|
{{join .Name ","}}
{{lower "ABC É"}} {{upper "abc é"}} {{title "hello world x-y o'neil"}}
{{lower 3}}
{{lower .State.ExitCode}}
{{upper .Config.Env}}
{{pad "x" 2 3}}|{{pad "" 2 3}}|
{{truncate "abcdef" 3}} {{truncate "ab" 3}} {{truncate "abc" 3}}
{{truncate .Id "a"}}
{{truncate "abc"}}
{{println "a" 1 true}}{{print "a" "b" 1 2 "c"}}{{print 1 2}}
{{println}}x
{{print}}x
{{range .Config.Env}}{{println .}}{{end}}
{{range $i, $e := .Config.Env}}{{$i}}={{$e}} {{end}}
{{range $e := .Args}}<{{$e}}>{{end}}
{{range .HostConfig.Binds}}x{{else}}empty{{end}}
{{range 3}}{{.}}{{end}}
{{range $i := 3}}{{$i}}{{end}}
{{range $i, $j := 3}}{{$i}}{{end}}
{{range 0}}x{{else}}none{{end}}
{{range "abc"}}{{.}}{{end}}
{{range .Name}}{{.}}{{end}}
{{range .State}}{{.}}{{end}}
{{range .State.Health}}x{{end}}
{{range true}}x{{end}}
{{range .Args}}{{if eq . "b"}}{{break}}{{end}}{{.}}{{end}}
{{range .Args}}{{if eq . "b"}}{{continue}}{{end}}{{.}}{{end}}
{{range $i, $x := .Args}}{{if $i}},{{end}}{{$x}}{{end}}
{{break}}
{{if true}}{{continue}}{{end}}
{{$x := 1}}{{$x = 2}}{{$x}}
{{$x := "a"}}{{if true}}{{$x := "b"}}{{$x}}{{end}}{{$x}}
{{$x := "a"}}{{if true}}{{$x = "b"}}{{end}}{{$x}}
{{$x := .State}}{{$x.Status}} {{$x.ExitCode}}
{{$x.Foo}}
{{$x = 1}}
{{$x := 1}}{{range .Args}}{{$x}}{{$x = 2}}{{end}}
{{$x := .Args}}{{index $x 0}}
{{$}}{{/* the root */}}
{{.State.Status | upper | printf "%s!"}}
{{.Name | printf "%q"}}
{{"a" | printf "%s-%s" "b"}}
{{.Args | len | printf "%03d"}}
{{printf "%s %d %v %t %q %x" .Name .State.ExitCode .Args .State.Running .Name "hi"}}
{{printf "%5d|%-5d|%05d|%+d|% d" 42 42 42 42 42}}
{{printf "%10s|%-10s|%.2s|%10.2s|" "abc" "abc" "abc" "abc"}}
{{printf "%*d|%-*d|" 5 42 5 42}}
{{printf "%x %X %o %b %c %U %#x %#o" 255 255 8 5 65 65 255 8}}
{{printf "%f %.2f %e %g %8.3f|" 3.14159 3.14159 31415.9 3.14 3.14159}}
{{printf "%v %v %v" 1.0 1e21 1e-7}}
{{printf "%6.2f|%-8.1f|%+.1f|%08.2f" 3.14159 3.14159 3.14159 3.14159}}
{{printf "%g %g %G" 1e6 1e-5 1e21}}
{{printf "%d" "a"}}
{{printf "%s" 3}}
{{printf "%d %d" 1}}
{{printf "%d" 1 2}}
{{printf "%!"}}
{{printf "%"}}
{{printf "%z" 1}}
{{printf "%[2]s %[1]s" "a" "b"}}
{{printf "%[3]s" "a" "b"}}
{{printf "%t" 1}}
{{printf "%%"}}
{{printf "%T %T %T %T" 1 "a" true 1.5}}
{{printf "%v" nil}}
{{printf "%v %s" .HostConfig.Binds .Args}}
{{printf "%q" .Args}}
{{printf "%v" .Config.Labels}}
{{printf "%c%c" 72 233}}
{{printf "%q %q" 65 "a\"b\n"}}
{{printf "% x|%#x" "abc" "abc"}}
{{printf .State.ExitCode}}
{{printf 3}}
{{printf}}
{{html "<a href='x'>&\""}} {{js "a'b<\n"}} {{urlquery "a b&c/é"}}
{{html .Args}}
{{define "a"}}[{{.}}]{{end}}{{template "a" .Name}}{{template "a" "x"}}
{{define "a"}}{{.}}{{end}}{{template "a"}}
{{define "r"}}{{if .}}{{index . 0}}{{template "r" (slice . 1)}}{{end}}{{end}}{{template "r" .Args}}
{{block "b" .Name}}<{{.}}>{{end}}
{{template "none" .}}
{{template "none"}}
{{define "a"}}x{{end}}{{define "a"}}y{{end}}{{template "a"}}
{{define "a"}}{{.Foo}}{{end}}{{template "a" .}}
{{define "a"}}{{$x}}{{end}}
{{- .Name -}}   x   {{- 1 -}}
a {{- /* comment */ -}} b
{{/* comment */}}x
{{/* a
comment */}}x
{{- /* c */}}x
{{"a{{b}}"}} {{`raw "x"`}}
{{"tab\tnewline\nquote\" é \u00e9 \x41 \101"}}
{{'a'}} {{'\n'}} {{'é'}}
{{1}} {{-1}} {{+1}} {{1_000}} {{0x1F}} {{0o17}} {{017}} {{0b101}} {{1e3}} {{1.5}} {{.5}} {{1e100}}
{{9223372036854775807}}
{{18446744073709551615}}
{{true}} {{false}} {{nil}}
{{nil}}
{{.}}{{.Foo}}
{{.Foo}}
{{.State.Foo}}
{{.State.Foo.Bar}}
{{.Name.Foo}}
{{.Args.Foo}}
{{.State.ExitCode.Foo}}
a
 b {{.Foo}}
{{.Name}}{{.Config.Nosuch}}
{{json .Nosuch}}
{{(.State).Status}} {{(index .Mounts 0).Source}}
{{(index .Mounts 0).Nosuch}}
{{.Name "x"}}
{{.Name | .Path}}
{{3 4}}
{{"x" "y"}}
{{. | .}}
{{1 | 2}}
{{.Name | "x"}}
{{nosuch .Name}}
{{.Name | nosuch}}
{{len}}
{{len 1 2}}
{{index}}
{{index .Args}}
{{index .Args "a"}}
{{index .Config.Labels 1}}
{{index .Name 0}}
{{index 3 0}}
{{index .Mounts 0 "Source"}}
{{index nil 0}}
{{call .Name}}
{{.Foo
{{
}}
{{}}
{{if}}x{{end}}
{{if .Name}}x
{{if .Name}}x{{else}}y{{else}}z{{end}}
{{end}}
{{else}}
{{range}}{{end}}
{{range .Args}}
{{with}}{{end}}
{{"unclosed}}
{{`unclosed}}
{{'ab'}}
{{/* unclosed }}
{{.Name)}}
{{(.Name}}
{{.Name | }}
{{| .Name}}
{{$x := }}
{{$x, $y := 1}}
{{range $a, $b, $c := .Args}}{{end}}
{{template}}
{{template x}}
{{define}}{{end}}
{{define "a"}}
{{if .Name}}{{define "a"}}{{end}}{{end}}
{{.Name..Foo}}
{{..}}
{{.1}}
{{a.b}}
{{#}}
{{.Name @}}
{{ .Name}} {{.Name }} {{ .Name }}
{{-.Name}}
{{"a" -}}   b
{{if .Name -}} x {{- end}}
{{if not .State.Running}}stopped{{end}}
{{if (and (eq .State.Status "exited") (ne .State.ExitCode 0))}}failed{{end}}
{{printf "%-20s %s" .Name .State.Status}}
{{range .Config.Env}}{{if eq (index (split . "=") 0) "PATH"}}{{.}}{{end}}{{end}}
{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}{{"\n"}}{{end}}
{{range .Config.Env}}{{.}}{{end}}\n\t
{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy}}
{{.HostConfig.LogConfig.Type}} {{.HostConfig.LogConfig.Config}} {{.HostConfig.LogConfig}}
{{.HostConfig.ConsoleSize}} {{.HostConfig.PortBindings}}
{{.HostConfig.PidsLimit}} {{.HostConfig.Tmpfs}} {{.HostConfig.Mounts}} {{.HostConfig.Init}} {{.HostConfig.OomKillDisable}}
{{.HostConfig.DNS}} {{.HostConfig.Dns}} {{.HostConfig.ExtraHosts}} {{.HostConfig.Sysctls}}
{{.HostConfig.Sysctls.x}} {{.HostConfig.Annotations}} {{.HostConfig.StorageOpt}}
{{.Config.ExposedPorts}} {{.Config.Volumes}} {{.Config.Healthcheck}} {{.Config.StopSignal}}|{{.Config.StopTimeout}}
{{.GraphDriver.Name}} {{.GraphDriver.Data.UpperDir}} {{.GraphDriver.Data.Nosuch}}
{{.SizeRw}} {{.SizeRootFs}}
{{.ExecIDs}} {{.RestartCount}}
{{.NetworkSettings.IPAddress}} {{.NetworkSettings.Gateway}} {{.NetworkSettings.MacAddress}}
{{.NetworkSettings.Ports}}
{{json .NetworkSettings.Ports}}
{{json .}}
{{json .State.Status}} {{json 3}} {{json true}} {{json "<&>"}} {{json nil}}
{{json .Name | upper}}
json
{{or}}
{{and 1 (index .Args 99)}}
{{and 0 (index .Args 99)}}
{{or 1 (index .Args 99)}}
{{1 | or 0}} {{0 | and 1}}
{{range $i, $e := .Args}}{{with $e}}{{.}}{{if eq $i 0}}{{continue}}{{end}}{{end}};{{end}}
{{len (printf "%1000d" 1)}}
{{printf "%99999999d" 1}}
{{range $i, $m := .Mounts}}{{$i}} {{$m.Destination}} {{$m.Mode}} {{$m.Propagation}}{{end}}
{{.Created}} {{.Image}} {{.Driver}} {{.Platform}}
{{.State.Pid}} {{.State.OOMKilled}} {{.State.Error}}|
{{ .State.Status|upper}}
{{(printf "%s" .Name) | len}}
{{print (len .Args) .Name}}
{{print nil}}
{{print .Config.Labels.none}}
{{len .Config.Labels.none}}
{{if .Config.Labels.none}}a{{else}}b{{end}}
{{eq .Config.Labels.a "1"}} {{eq .Config.Labels.none "1"}}
{{lower .Config.Labels.none}}
{{.Config.Labels.none.deep}}
{{with index .Config.Labels "none"}}x{{else}}y{{end}}
{{with (index .NetworkSettings.Networks "nosuch")}}x{{else}}y{{end}}
'''

LIST = r'''
{{.ID}}
{{.ID}}: {{.Command}}
{{.Names}}\t{{.Status}}
table
table {{.ID}}
table {{.ID}}\t{{.Names}}\t{{.Ports}}
table {{.Names}}\t{{.Label "com.example.my-name"}}
table {{upper .Names}}\t{{json .Image}}\t{{truncate .Names 2}}
table {{.Names}} / {{.Image}}
table {{pad .Names 2 2}}|\t{{.Image}}
table {{slice .ID 0 3}}\t{{.Names}}
table {{split .Names ","}}
table {{.Nosuch}}
table{{.ID}}
table {{if .Names}}{{.Names}}{{end}}\t{{len .Names}}
{{.Label "a"}}
{{.Label "none"}}|
{{.Label}}
{{.Label 3}}
{{"a" | .Label}}
{{.Labels}}
{{.Nosuch}}
{{json .Names}} {{json .Nosuch}}
{{.Names.Foo}}
{{.Names "x"}}
{{nosuch}}
{{
{{.ID
{{if .ID}}
{{len .Names}} {{upper .Names}} {{.Names | printf "%-10s|"}}
{{range (split .Names ",")}}[{{.}}]{{end}}
{{.Image}} {{.LocalVolumes}} {{.Mounts}} {{.Networks}} {{.State}} {{.Size}}
{{if eq .State "running"}}{{.Names}}{{end}}
{{.ID}}\n{{.Names}}

x
raw
pretty
'''

# Objects with nothing in them but what makes Docker show the types of their parts.
EMPTY = {
    "/containers/empty/json": {"Id": "x", "State": {}, "HostConfig": {}, "Config": {}, "Mounts": [{}],
                               "NetworkSettings": {"Networks": {"bridge": {}}}, "GraphDriver": {"Data": None}},
    "/networks/empty": {"Name": "empty", "Containers": {}, "IPAM": {"Config": [{}]}},
    "/images/empty/json": {"Id": "x", "RootFS": {"Type": "layers"}},
    "/info": {}, "/version": {"Components": [{"Name": "Engine", "Version": "1", "Details": {}}]},
    "/networks": [{"Name": "web", "Id": "x"}],
    "/images/json": [{"Id": "sha256:" + "a" * 64, "RepoTags": ["busybox:latest"], "RepoDigests": [], "Created": 1714564800,
                      "Size": 4500000, "SharedSize": -1, "Containers": -1, "Labels": None, "ParentId": ""}],
}

SCHEMA = {
    "container": ["inspect", "-f", "{{json .}}", "empty"],
    "network": ["network", "inspect", "-f", "{{json .}}", "empty"],
    "image": ["image", "inspect", "-f", "{{json .}}", "empty"],
    "info": ["info", "-f", "{{json .}}"],
    "version": ["version", "-f", "{{json .}}"],
    "ps": ["ps", "-a", "--format", "json", "-n", "1"],
    "images": ["images", "--format", "json"],
    "network ls": ["network", "ls", "--format", "json"],
}

USAGE = """
run|run --foo x|run -itZ x|run --name|run -v|run --rm=maybe b|run --pids-limit a b|run --blkio-weight a b
create|exec|exec a|exec --foo a b|start|start --foo|stop|stop -t a x|stop --foo|kill|kill --foo|attach|attach a b
wait|rename|rename a|rename a b c|rm|rm --foo|images a b|images --foo|images -f foo|import|load x|inspect
inspect -f|inspect --foo|container inspect|image inspect|logs|logs a b|logs --foo|network create|network create a b
network ls x|network inspect|network connect|network connect a|network connect a b c|network disconnect a|network rm
network prune x|port|port a b c|update|update --foo|info x|info --foo|pull|pull a b|rmi|rmi --foo|version x|version --foo
ps x|ps --foo|ps -z|ps -f foo|ps -n x|ps -n|container ls x|container ps --foo|container list -n x|image ls a b
inspect --type foo x|image rm
""".replace("\n", "|").strip("|").split("|")

def wrong_lines():
    """The lines above, and every command for containers and for the system with too few and too many
    words, an unknown flag, and each of its flags with what cannot be a value."""
    found, commands = list(USAGE), {}
    others = ("image", "images", "import", "load", "network", "pull", "rmi")
    with open(HERE + "/../it/data/flags.tsv") as table:
        rows = [line.rstrip("\n").split("\t") + [""] for line in table if not line.startswith("#")]
    for names, short, long, kind, *status in rows:
        names = names.split(", ")
        if names[0].split()[0] in others:
            continue
        commands.update(dict.fromkeys(names))
        if status[0] or long in ("-", "--help", "--since", "--until"):
            continue
        if kind == "bool":
            found.append(f"{names[0]} {long}=maybe a b")
        else:
            found += [f"{names[0]} {long}", f"{names[0]} {long}=zz! a b"]
            found += [f"{names[0]} {short}"] * (short != "-")
    for name in commands:
        found += [f"{name}{words}" for words in ("", " --foo", " -Z", " a", " a b", " a b c")]
    return list(dict.fromkeys(found))

def run(sock, *args):
    env = dict(os.environ, DOCKER_HOST="unix://" + sock, TZ="UTC", HOME="/nonexistent")
    done = subprocess.run(["docker", *args], env=env, capture_output=True, text=True)
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr}

def main():
    with tempfile.TemporaryDirectory() as dir:
        sock, objects = dir + "/docker.sock", dir + "/objects.json"
        json.dump({"/containers/box/json": BOX, "/containers/json": ROWS, **EMPTY}, open(objects, "w"))
        daemon = subprocess.Popen([sys.executable, HERE + "/daemon.py", sock, objects])
        try:
            while not os.path.exists(sock):
                time.sleep(0.05)
            cases = {"object": [], "rows": []}
            for template in lines(OBJECT):
                cases["object"].append({"template": template, **run(sock, "inspect", "-f", template, "box")})
            for template in lines(LIST):
                cases["rows"].append({"template": template, **run(sock, "ps", "-a", "--format", template)})
            schema = {name: json.loads(run(sock, *args)["out"].splitlines()[0]) for name, args in SCHEMA.items()}
            # Its first line says what is wrong, the others are Docker's own help.
            usage = [(line, done["code"], done["err"].splitlines()[0].removeprefix("docker: "))
                     for line in wrong_lines() for done in [run(sock, *line.split())]
                     # The others went on to the daemon.
                     if "Usage:" in done["err"] or line in USAGE]
        finally:
            daemon.terminate()
    with open(HERE + "/templates.json", "w") as out:
        out.write("{")
        for n, (kind, found) in enumerate(cases.items()):
            out.write(("," if n else "") + f'\n"{kind}": [\n' + ",\n".join(json.dumps(c, ensure_ascii=False) for c in found) + "\n]")
        out.write("\n}\n")
    with open(HERE + "/schema.json", "w") as out:
        json.dump(schema, out, indent=1)
        out.write("\n")
    with open(HERE + "/usage.json", "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(case) for case in usage) + "\n]\n")

def lines(text):
    # A line that does not begin a template belongs to the one before: comments and texts of two lines.
    return text.strip("\n").split("\n")

main()
