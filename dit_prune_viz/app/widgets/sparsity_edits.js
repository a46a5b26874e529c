// What sliders of whole layers, blocks and kinds send, after messages.js: a text of sparsities per event, "3:45, adaLN:40".
//
// answered(changed, text):  as in messages.js, with the text that was written, null for what sliders sent
function sparsityEdits({ answered = () => {}, keep = () => false }) {
  const PAUSE = 100; // milliseconds from one event to the next, at least
  const REST = 300; // milliseconds without a move after which the other views follow
  const moved = new Map(); // what is still to be sent: key → per cent; where keys overlap, the later one holds
  let sent = new Map(); // on its way
  let typed = null; // a text that is to be sent as it is
  let sentText = null;
  let whole = null; // per cent for the model as a whole
  let gesture = 0;
  const settle = timer(() => trigger("submit", {})); // once nothing moves any more

  const channel = messages({
    pause: PAUSE,
    pending: () => moved.size > 0 || typed !== null || whole !== null,
    take() {
      settle.stop();
      if (whole !== null) {
        const overall = whole;
        whole = null;
        return { overall, gesture };
      }
      let text = typed?.text;
      let keeps = keep();
      if (moved.size) {
        sent = new Map(moved);
        moved.clear();
        text = [...sent].map(([key, share]) => `${key}:${share}`).join(", ");
      } else {
        keeps = typed.keeps ?? keeps;
        [sentText, typed] = [text, null];
      }
      return { text, keep: keeps, gesture };
    },
    answered(changed) {
      const text = sentText;
      sent = new Map();
      sentText = null;
      answered(changed, text);
    },
    settled: () => settle.start(REST),
  });

  return {
    // Begins what is one step to undo.
    begin: () => (gesture += 1),
    set(keys, share) {
      for (const key of keys) {
        moved.delete(key);
        moved.set(key, share);
      }
      channel.send();
    },
    // The recipe's own sparsity, which every layer follows that is not set by hand.
    setWhole(share) {
      whole = share;
      channel.send();
    },
    // `keeps` in the place of `keep()`, where it is given.
    write(text, keeps) {
      gesture += 1;
      typed = { text, keeps };
      channel.send();
    },
    // Whether the server does not know yet what a slider says.
    isNewer: (key) => moved.has(key) || sent.has(key),
    read: channel.read,
  };
}

// A percentage as it is written: 45, 33.3.
const shareText = (share) => String(+share.toFixed(1));
