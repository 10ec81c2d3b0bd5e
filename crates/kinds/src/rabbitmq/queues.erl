%% Evaluated by RabbitMQ's runtime once the broker has booted.
%%
%% Ra, the Raft library under quorum queues, keeps the directory that leads from a queue to its log in `names.dets`, and
%% writes it about a second late. A broker that is killed in between does not find the log of a queue that was just
%% declared: it gives the queue a new, empty member, which loses confirmed messages, and that member never elects itself,
%% which leaves the queue without a leader for ever. So the directory is written as soon as a queue is entered, and a
%% member that has never seen an election is made to hold one.
spawn(fun() ->
    {module, _} = code:ensure_loaded(ra_directory),
    Tables = fun() -> [Table || Table <- dets:all(), filename:basename(dets:info(Table, filename)) =:= "names.dets"] end,
    Members = fun(System) -> try ra_directory:list_registered(System) catch _:_ -> [] end end,
    Elect = fun(Name) ->
        try
            #{state := follower, term := 0} = ra:key_metrics({Name, node()}),
            ra:trigger_election({Name, node()})
        catch _:_ -> ok end
    end,
    Watch = fun Watch(Quiet) ->
        receive
            {trace, _, return_from, _, _} -> [dets:sync(Table) || Table <- Tables()], Watch(500);
            _ -> Watch(Quiet)
        after Quiet ->
            [Elect(Name) || System <- [quorum_queues, coordination], {Name, _} <- Members(System)],
            Watch(infinity)
        end
    end,
    erlang:trace_pattern({ra_directory, register_name, '_'}, [{'_', [], [{return_trace}]}], [global]),
    erlang:trace(all, true, [call]),
    [dets:sync(Table) || Table <- Tables()],
    Watch(0)
end).
