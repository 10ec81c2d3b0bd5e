%% Evaluated by each Erlang runtime of the container before anything else; the tools' runtimes do nothing with it.
%%
%% Ra, the Raft library under quorum queues, keeps the directory that leads from a queue to its log in `names.dets`, and
%% writes it about a second late. A broker that is killed in between does not find the log of a queue that was just
%% declared: it gives the queue a new, empty member, which loses confirmed messages, and that member never elects itself,
%% which leaves the queue without a leader for ever. So the directory is written as soon as a queue is entered, from the
%% first queue on: this must run before the broker accepts clients. A member that has never seen an election is made to
%% hold one.
Sync = fun() -> [catch dets:sync(Table) || Table <- dets:all(), filename:basename(dets:info(Table, filename)) =:= "names.dets"] end,
Members = fun(System) -> try ra_directory:list_registered(System) catch _:_ -> [] end end,
Elect = fun(Name) ->
    try
        #{state := follower, term := 0} = ra:key_metrics({Name, node()}),
        ra:trigger_election({Name, node()})
    catch _:_ -> ok end
end,
IsBooted = fun() -> try rabbit_boot_state:get() =:= ready catch _:_ -> false end end,
Watch = fun Watch(Quiet) ->
    receive
        {trace, _, return_from, _, _} -> Sync(), Watch(500);
        _ -> Watch(Quiet)
    after Quiet ->
        Next = case IsBooted() of true -> infinity; false -> 500 end,
        [Elect(Name) || System <- [quorum_queues, coordination], {Name, _} <- Members(System)],
        Watch(Next)
    end
end,
Start = fun Start() ->
    case code:ensure_loaded(ra_directory) of
        {module, _} ->
            erlang:trace_pattern({ra_directory, register_name, '_'}, [{'_', [], [{return_trace}]}], [global]),
            erlang:trace(all, true, [call]),
            Sync(),
            Watch(500);
        _ ->
            receive after 10 -> Start() end
    end
end,
case init:get_argument(boot) of
    {ok, [["no_dot_erlang"] | _]} -> ok;
    _ -> spawn(fun() -> process_flag(priority, high), Start() end)
end.
