using System.CommandLine;
using Skiff.Serve;

// skiff: `serve` is what it does unless told otherwise; the other commands work on the store, with or without a running server.
var data = new Option<string>("--data") { Description = "Folder of the embedded stores", DefaultValueFactory = _ => "./.skiff", Recursive = true };
var tenant = new Option<string>("--tenant") { Description = "Whose models and apps", DefaultValueFactory = _ => "default", Recursive = true };

var root = new RootCommand("Skiff serves ONNX models from functions, and from this process.") { data, tenant };
ServeCommand.Add(root, data);
StoreCommands.Add(root, data, tenant);
TuneCommand.Add(root, data, tenant);
SimulateCommand.Add(root);
PlanCommand.Add(root);
QuarantineCommand.Add(root, data, tenant);
ReplayCommand.Add(root, data, tenant);
PriorCommand.Add(root, data, tenant);
EvaluateCommand.Add(root, data, tenant);
KeyCommand.Add(root, tenant);
CommandLineNumbers.ReadStrictly(root);

// The web host handles Ctrl-C itself, and drains; the command line's own handler would cut it short.
return await root.Parse(args).InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null });
